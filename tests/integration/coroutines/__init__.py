"""Callbacks that are coroutines."""
