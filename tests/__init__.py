"""The tests, by the package they test."""
