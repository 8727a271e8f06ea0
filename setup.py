"""Build and install; everything about the package but its license's name is in pyproject.toml.

Setuptools before and after version 77 want the license in two ways that exclude each other there.
"""

from setuptools import setup

setup(license="BSD-3-Clause")
