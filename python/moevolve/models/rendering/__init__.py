"""Chat templates rendered apart from this process, within bounds."""
