"""Confirmed publishing: messages, the publisher that any thread may use, futures, batches."""
