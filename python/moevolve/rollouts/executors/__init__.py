"""Executors of rollouts, each behind `moevolve.protocol.rollouts.Executor`."""
