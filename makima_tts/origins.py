"""Which pages may use the service: the one rule for WebSockets, for changing HTTP requests and for CORS.

In: the operator's patterns (TTS_ALLOWED_ORIGINS), the headers ``Origin`` and ``Host``. Out: whether a page
may pass; for the operator, why a pattern could never match. Does not know: requests, routes.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

ANY = "*"
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]]*)(?::([0-9]{1,5}|\*))?")
_NAME = re.compile(r"(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?)")
# Checked in this order, on a pattern in lower case and without a slash at its end.
_FAULTS = (
    (re.compile(r"\s"), "contains white space; separate origins by commas"),
    (re.compile(r"['\"]|^\["), "contains quotes or brackets; write the origins as they are"),
    (re.compile(r"[^\x00-\x7f]"), "is not ASCII; write the host as browsers send it, in punycode (xn--…)"),
    (re.compile(r"^(?!.*://)"), "has no scheme; write https:// or http:// before the host"),
    (re.compile(r"^wss?://"), "has the scheme of a WebSocket; a page's is https:// or http://"),
    (re.compile(r"://[^/?#]*@"), "contains a user name; an origin is a scheme, a host and a port"),
    (re.compile(r"://[^/?#]*[/?#]"), "contains a path; an origin is a scheme, a host and a port"),
)
_UNFIT = (
    "can match no page; write an origin such as https://a.example:8443, where * may be the port, the host "
    "or the first part of the host (https://*.a.example)"
)


class Origin(NamedTuple):
    """A page's, or a pattern. ``port`` is the scheme's default where none is given, and may be empty."""

    scheme: str
    host: str
    port: str


class OriginRules:
    """``patterns``: as ``normalized`` returns them. Pages of this machine are always admitted."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.admits_all = ANY in patterns
        self._texts = frozenset(patterns)
        self._patterns = [pattern for text in patterns if (pattern := parse_origin(text))]

    def admit(self, origin: str) -> bool:
        """Whether pages of this origin may use the service from there."""
        if self.admits_all or origin in self._texts:
            return True
        page = parse_origin(origin)
        return page is not None and (_is_local(page) or any(_matches(page, one) for one in self._patterns))


def parse_origin(text: str) -> Origin | None:
    """None for what is no origin, ``null`` too."""
    found = _ORIGIN.fullmatch(text.strip().lower().removesuffix("/"))
    if found is None:
        return None
    scheme, host, port = found.groups()
    if port is None:
        port = _DEFAULT_PORTS.get(scheme, "")
    return Origin(scheme, host, str(int(port)) if port.isdigit() else port)


def is_same_origin(origin: str, host: str) -> bool:
    """Whether a page was loaded from this ``Host``. The scheme is not compared: a proxy may end TLS."""
    page = parse_origin(origin)
    return page is not None and bool(page.host) and page == parse_origin(f"{page.scheme}://{host}")


def normalized(pattern: str) -> str:
    """As browsers write it. Raises ValueError, which says why the pattern could never match."""
    text = pattern.strip().lower()
    if text in (ANY, "null", "file://"):
        return text
    text = text.removesuffix("/")
    for fault, reason in _FAULTS:
        if fault.search(text):
            raise ValueError(reason)
    origin = parse_origin(text)
    if origin is None or not _can_match(origin):
        raise ValueError(_UNFIT)
    scheme, host, port = origin._replace(host=_compressed(origin.host))
    shown = "" if port == _DEFAULT_PORTS.get(scheme, "") else f":{port}"
    return f"{scheme}://{host}{shown}"


def _matches(page: Origin, pattern: Origin) -> bool:
    starred = pattern.host.startswith(ANY)
    same_host = page.host.endswith(pattern.host[1:]) if starred else page.host == pattern.host
    return page.scheme == pattern.scheme and same_host and pattern.port in (page.port, ANY)


def _is_local(page: Origin) -> bool:
    """No name server answers for ``localhost`` and what is below it (RFC 6761). Apps have their own schemes
    there: ``tauri://localhost``, ``capacitor://localhost``, ``http://tauri.localhost``."""
    return page.host in _LOCAL_HOSTS or page.host.endswith(".localhost")


def _can_match(origin: Origin) -> bool:
    if origin.port.isdigit() and not 0 < int(origin.port) < 65536:
        return False
    if origin.scheme not in _DEFAULT_PORTS:  # hosts of other schemes are names of apps and extensions
        return bool(origin.host) and "*" not in origin.host.removeprefix("*")
    if origin.host.startswith("[") or origin.host.rpartition(".")[2].isdigit():
        return _compressed(origin.host) != ""
    return _NAME.fullmatch(origin.host) is not None


def _compressed(host: str) -> str:
    """An address as browsers write it; empty if it is none. A name as it is."""
    try:
        if host.startswith("["):
            return f"[{IPv6Address(host[1:-1]).compressed}]"
        return str(IPv4Address(host)) if host.rpartition(".")[2].isdigit() else host
    except ValueError:
        return ""
