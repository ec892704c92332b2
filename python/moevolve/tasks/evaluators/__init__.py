"""Optimisation problems: programs that an evaluator scores with a real number, in folders of OpenEvolve and ShinkaEvolve."""
