"""What answers prompts: the engine on this machine, or a server."""
