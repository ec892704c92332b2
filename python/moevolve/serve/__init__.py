"""An OpenAI-compatible server over the engine: one thread draws, asyncio talks."""
