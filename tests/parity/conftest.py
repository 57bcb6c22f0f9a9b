"""The environment of the reference package."""

from tests.official.conftest import environment_with, python

__all__ = ["environment_with", "python"]
