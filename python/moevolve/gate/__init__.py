"""The statistical decision about a candidate."""
