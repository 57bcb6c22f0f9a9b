"""The native protocol: /api/v1 and the operator's routes.

In: WebSocket frames and HTTP requests. Out: frames and responses. Does not know: how speech is generated.
"""
