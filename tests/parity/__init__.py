"""Tests that our model computes the same as the reference package."""
