"""Forced alignment, alone and in its process."""
