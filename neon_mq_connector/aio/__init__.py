"""Coroutines as callbacks, and calls that are awaited."""
