"""What a run keeps of its attempts: lessons, from successes and from failures."""
