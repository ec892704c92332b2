"""Attempts of a variant on tasks, graded and tallied."""
