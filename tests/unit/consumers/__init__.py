"""Tests of the consumers, without a broker."""
