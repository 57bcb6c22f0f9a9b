"""Tests of the model's own laws."""
