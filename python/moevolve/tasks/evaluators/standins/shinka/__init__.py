"""What evaluators of ShinkaEvolve import of it, and no more."""
