"""Evolution: the loop, the archive and its parents, learning, and the gate that both levels pass through."""
