"""What protects the service from foreign pages, and serves those that the operator allows.

In: an app, the rules for origins. Out: the same app with security headers, CORS, and refusals of other pages.
Does not know: which origins are allowed, what routes do.

CORS headers do not protect a WebSocket, nor a multipart form that any page may submit. So the Origin itself
is checked, on every upgrade and on every request that changes something. Clients other than browsers send
none, and pass.
"""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from makima_tts.api.failures import error_response, route_path
from makima_tts.errors import Forbidden
from makima_tts.origins import OriginRules, is_same_origin

# Nothing of the page comes from elsewhere, nothing inline runs, no other page may frame it.
_PAGE_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; worker-src 'self' blob:; "
        b"img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
# FastAPI's documentation page is the one that loads its scripts from elsewhere.
_DOCS_PATHS = ("/docs", "/docs/oauth2-redirect")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def page_headers(app: ASGIApp) -> ASGIApp:
    """Security headers on every HTTP answer."""

    async def with_headers(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_PAGE_HEADERS]}
            await send(message)

        guarded = scope["type"] == "http" and route_path(scope) not in _DOCS_PATHS
        await app(scope, receive, send_with_headers if guarded else send)

    return with_headers


class CrossOrigin(CORSMiddleware):
    """CORS on every HTTP answer, errors too, for the pages that ``rules`` admit.

    Cookies are not allowed: the service has none. The preflight of any other page is answered like every
    other request for its path, without the headers that let it pass.
    """

    def __init__(self, app: ASGIApp, rules: OriginRules) -> None:
        super().__init__(
            app,
            allow_origins=("*",) if rules.admits_all else (),
            allow_methods=("*",),
            allow_headers=("*",),
            expose_headers=("*",),
            allow_private_network=True,
        )
        self._rules = rules

    def is_allowed_origin(self, origin: str) -> bool:
        return self._rules.admit(origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if not self.is_allowed_origin(headers.get("origin", "")):
                await self.simple_response(scope, receive, send, headers)
                return
        await super().__call__(scope, receive, send)


def origin_guard(app: ASGIApp, rules: OriginRules) -> ASGIApp:
    """Pages of the same origin pass, and those that ``rules`` admit."""

    def may_pass(headers: Headers) -> bool:
        origin = headers.get("origin")
        return origin is None or rules.admit(origin) or is_same_origin(origin, headers.get("host", ""))

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        changes = scope["type"] == "websocket" or scope.get("method", "GET") not in _SAFE_METHODS
        if not changes or may_pass(Headers(scope=scope)):
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            error = Forbidden(
                "Pages of this origin may not do this; the operator can add it to TTS_ALLOWED_ORIGINS."
            )
            await error_response(error, scope)(scope, receive, send)

    return guarded
