"""Unmodified third-party clients against a real server process."""
