"""The skill tree: its shape, what is mastered, and where the next attempts go."""
