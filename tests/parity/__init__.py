"""Tests that our model computes what the reference package computes."""
