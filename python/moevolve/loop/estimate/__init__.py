"""Estimates of a run before it starts: by an engine on this machine, by a server."""
