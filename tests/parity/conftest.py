"""The reference's own environment, for those who run it."""

from tests.official.conftest import environment_with, python

__all__ = ["environment_with", "python"]
