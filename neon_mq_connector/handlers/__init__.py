"""Handlers: methods that are declared as consumers, and what they are called and asked with."""
