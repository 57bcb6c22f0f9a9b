"""Measurements: what the service costs (``service``), and how a running server bears load (``load``)."""
