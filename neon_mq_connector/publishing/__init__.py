"""Confirmed publishing: the books of a channel, and the publisher that any thread may use."""
