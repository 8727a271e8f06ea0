"""Tests that need no broker; the folders mirror the package."""
