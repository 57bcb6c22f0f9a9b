"""Programs to read and to begin with; each has a README.md beside it."""
