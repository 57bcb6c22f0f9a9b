"""Requests as the client sent them, where trusted proxies pass them on.

In: requests with X-Forwarded-For, -Proto, -Host and -Prefix. Out: the same requests with the address of the
client, and the scheme, host and path that it used; from other peers, these headers are ignored. Does not
know: routes.
"""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def behind_proxies(app: ASGIApp, trusted: tuple[str, ...]) -> ASGIApp:
    """``trusted``: addresses and networks of proxies; ``*`` is any peer."""
    # uvicorn's middleware takes the address (the last one that is no trusted proxy) and the scheme.
    with_address = ProxyHeadersMiddleware(app, list(trusted))  # type: ignore[arg-type]

    async def forwarded(scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        if peer is not None and peer[0] in with_address.trusted_hosts:
            scope = _as_sent(scope)
        await with_address(scope, receive, send)  # type: ignore[arg-type]

    return forwarded if trusted else app


def _as_sent(scope: Scope) -> Scope:
    """The prefix is the part of the path that the proxy has removed. Of several hosts, the last is from the
    proxy itself."""
    sent, headers = dict(scope), Headers(scope=scope)
    host = ",".join(headers.getlist("x-forwarded-host")).rpartition(",")[2].strip()
    if host:
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        sent["headers"] = [(b"host", host.encode("latin-1")), *others]
    prefix = headers.get("x-forwarded-prefix", "").strip().rstrip("/")
    if _PREFIX.fullmatch(prefix):
        raw_path = prefix.encode() + scope.get("raw_path", b"")
        sent |= {"root_path": prefix, "path": prefix + scope["path"], "raw_path": raw_path}
    return sent
