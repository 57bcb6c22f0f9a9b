"""The order of work and the admission: pure policy, and in virtual time."""
