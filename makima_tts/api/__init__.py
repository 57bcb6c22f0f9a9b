"""The service's face: the only package that knows FastAPI.

In: an engine, voices, limits. Out: an ASGI app. Does not know: settings, which engine it is.
"""
