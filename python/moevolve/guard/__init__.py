"""Rules that can veto whatever the score says."""
