"""What runs in an evaluator's process: the standard library alone, so that a fork of it is small."""
