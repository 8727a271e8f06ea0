"""Behaviour of consumers that does not depend on how they are run: each test for every engine."""
