"""Boxes: attempts of agents that nobody wrote for this program, each behind walls of its own."""
