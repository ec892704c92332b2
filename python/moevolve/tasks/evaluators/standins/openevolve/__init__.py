"""What evaluators of OpenEvolve import of it, and no more."""
