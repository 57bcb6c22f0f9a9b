"""A conversation in a terminal: ``python -m examples.conversation``; see README.md."""
