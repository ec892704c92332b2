"""A run's store and what every reader makes of it."""
