"""Tests of the parts of a connector."""
