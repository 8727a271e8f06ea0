"""Applications that are asyncio themselves: what they ask, send, and run."""
