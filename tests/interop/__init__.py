"""Tests with the published package on the other side of a broker."""
