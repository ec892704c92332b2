"""Optimisation runs: programs that an evaluator scores, an archive of them, and a search that proposes the next one."""
