"""Tests of what threads need."""
