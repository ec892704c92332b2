"""From the model to toned lines of text: pure functions that a test calls without a terminal."""
