"""Rules that can veto or raise an alarm whatever the score says."""
