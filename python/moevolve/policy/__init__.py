"""What answers a prompt: the Candle engine."""
