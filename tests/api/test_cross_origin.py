"""Pages of other origins: CORS on every route, and the same rule for HTTP and WebSockets."""

from contextlib import nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError
from websockets.exceptions import InvalidStatus

from makima_tts import factory
from makima_tts.engines import ScriptedEngine
from makima_tts.origins import OriginRules, is_same_origin, normalized
from makima_tts.settings import Settings
from tests.api.conftest import Run
from tests.api.service import RunningService

PAGE = "https://page.example"
FOREIGN = "https://evil.example"
METHODS = ("GET", "POST", "DELETE")
LOCAL = (
    "http://localhost",
    "http://localhost:5173",
    "https://127.0.0.1:9",
    "http://[::1]:1",
    "tauri://localhost",
    "http://tauri.localhost",
    "https://tauri.localhost",
    "capacitor://localhost",
    "ionic://localhost",
)
NOT_LOCAL = (
    "null",
    "file://",
    "http://[",
    "http://localhost.evil.example",
    "http://notlocalhost",
    "http://127.0.0.1.evil.example",
    "https://evil.example/localhost",
    "chrome-extension://abc",
    "https://page.example.net",
    "http://page.example",
    "https://page.example:8443",
)


def every_path(folder: Path) -> list[str]:
    """Of every route and mount of the app, and of none."""
    settings = Settings(_env_file=None, engine="scripted", voices_dir=folder, cache_dir=folder)
    app = factory.build_app(settings, factory.build_service(settings, ScriptedEngine()))
    openapi = app.openapi()["paths"]
    plain = ["/", "/speak", "/docs", "/openapi.json", "/asyncapi.json", "/static/mark.svg", "/static/none.js"]
    assert len(openapi) > 10
    return [*(path.replace("{", "").replace("}", "") for path in openapi), *plain, "/nowhere", "/v1/nowhere"]


async def test_every_answer_of_every_route_can_be_read_by_an_allowed_page(run: Run, tmp_path: Path) -> None:
    async with run(allowed_origins=PAGE) as service, service.http() as http:
        for path in every_path(tmp_path):
            for method in METHODS:
                answer = await http.request(method, path, headers={"origin": PAGE})
                assert answer.headers["access-control-allow-origin"] == PAGE, (method, path)
                assert answer.headers["access-control-expose-headers"] == "*"
                assert "Origin" in answer.headers["vary"]
            asked = {"access-control-request-method": "PUT", "access-control-request-headers": "x-a, b"}
            preflight = await http.options(path, headers={"origin": PAGE, **asked})
            assert preflight.status_code == 200
            assert {"PUT", "DELETE"} <= set(preflight.headers["access-control-allow-methods"].split(", "))
            assert preflight.headers["access-control-allow-headers"] == "x-a, b"


async def test_no_answer_can_be_read_by_any_other_page(service: RunningService, tmp_path: Path) -> None:
    async with service.http() as http:
        for path in every_path(tmp_path):
            foreign = {"origin": FOREIGN}
            for method in METHODS:
                answer = await http.request(method, path, headers=foreign)
                assert "access-control-allow-origin" not in answer.headers
                assert "Origin" in answer.headers["vary"]
                assert (answer.status_code == 403) == (method != "GET"), (method, path)
            foreign["access-control-request-method"] = "PUT"
            preflight = await http.options(path, headers=foreign)
            assert "access-control-allow-origin" not in preflight.headers
            assert preflight.status_code in (404, 405)


async def test_refusals_before_any_route_and_failures_within_one_can_be_read(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run(allowed_origins=PAGE) as service, service.http() as http:
        too_large = await http.post(
            "/v1/audio/speech", json={"input": "a" * 300_000}, headers={"origin": PAGE}
        )
        monkeypatch.setattr(service.service.metrics, "render", None)
        failed = await http.get("/metrics", headers={"origin": PAGE})
        service.service.begin_drain()
        draining = await http.get("/ready", headers={"origin": PAGE})
        assert [answer.status_code for answer in (too_large, failed, draining)] == [413, 500, 503]
        for answer in (too_large, failed, draining):
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_one_rule_holds_for_http_and_websockets(run: Run) -> None:
    async with run(allowed_origins=PAGE) as service, service.http() as http:
        for origin in (PAGE, *LOCAL, *NOT_LOCAL):
            allowed = origin not in NOT_LOCAL
            answer = await http.delete("/api/v1/voices/none", headers={"origin": origin})
            assert answer.status_code == (404 if allowed else 403), origin
            assert (answer.headers.get("access-control-allow-origin") == origin) == allowed
            refused = nullcontext() if allowed else pytest.raises(InvalidStatus, match="403")
            with refused:
                async with service.client(origin=origin) as client:
                    assert (await client.until("ready"))[0]


async def test_any_origin_may_be_allowed(run: Run) -> None:
    async with run(allowed_origins="*") as service, service.http() as http:
        for origin in (FOREIGN, "null"):
            answer = await http.post("/v1/audio/speech", json={}, headers={"origin": origin})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (400, "*")
            assert "access-control-allow-credentials" not in answer.headers


# Patterns


@pytest.mark.parametrize(
    ("pattern", "page", "other"),
    [
        ("https://a.example/", "https://a.example", "http://a.example"),
        ("HTTPS://A.Example", "https://a.example", "https://b.example"),
        ("https://a.example:443", "https://a.example", "https://a.example:444"),
        ("http://a.example:080", "http://a.example", "https://a.example"),
        ("http://a.example:*", "http://a.example:5173", "https://a.example:5173"),
        ("https://*.a.example", "https://x.y.a.example", "https://a.example"),
        ("https://*.a.example", "https://x.a.example", "https://xa.example"),
        ("https://*", "https://x.example", "http://x.example"),
        ("http://[2001:DB8:0:0::1]:80", "http://[2001:db8::1]", "http://[2001:db8::2]"),
        ("http://192.168.1.5:*", "http://192.168.1.5:1", "http://192.168.1.50"),
        ("chrome-extension://*", "chrome-extension://abc", "moz-extension://abc"),
        ("app://obsidian.md", "app://obsidian.md", "app://other"),
        ("app://.", "app://.", "app://a"),
        ("null", "null", "file://"),
        ("file://", "file://", "null"),
    ],
)
def test_a_pattern_matches_what_it_says(pattern: str, page: str, other: str) -> None:
    rules = OriginRules(Settings(_env_file=None, allowed_origins=pattern).allowed_origins)
    assert rules.admit(page)
    assert not rules.admit(other)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a.example", "has no scheme"),
        ("localhost:3000", "has no scheme"),
        ("*.a.example", "has no scheme"),
        ("//a.example", "has no scheme"),
        ("https://a.example/app", "contains a path"),
        ("https://a.example//", "contains a path"),
        ("https://a.example/*", "contains a path"),
        ("https://a.example?x", "contains a path"),
        ("https://a.example#x", "contains a path"),
        ("https://a.example https://b.example", "contains white space"),
        ("wss://a.example", "scheme of a WebSocket"),
        ("https://user:secret@a.example", "contains a user name"),
        ("https://bücher.example", "punycode"),
        ('"https://a.example"', "quotes"),
        ('["https://a.example"]', "quotes or brackets"),
        ("https://a.*.example", "can match no page"),
        ("https://*a.example", "can match no page"),
        ("http*://a.example", "can match no page"),
        ("https://a..example", "can match no page"),
        ("https://a.example:0", "can match no page"),
        ("https://a.example:65536", "can match no page"),
        ("https://a.example:x", "can match no page"),
        ("http://192.168.1", "can match no page"),
        ("http://[::1", "can match no page"),
        ("http://[1::2::3]", "can match no page"),
    ],
)
def test_a_pattern_that_can_match_no_page_is_refused_with_its_reason(pattern: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=f"entry 2 .*{reason}") as refused:
        Settings(_env_file=None, allowed_origins=f"https://b.example,{pattern}")
    assert "secret" not in str(refused.value.errors(include_input=False))


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z][a-z0-9]{0,8}){0,3}", fullmatch=True)
PORTS = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))


@given(st.sampled_from(["http", "https", "app"]), NAMES, PORTS)
def test_an_accepted_pattern_without_a_star_admits_itself(scheme: str, host: str, port: str) -> None:
    text = normalized(f"{scheme}://{host}{port}")
    assert normalized(text) == text
    assert OriginRules([text]).admit(text)
    assert OriginRules([text]).admit(f"{scheme}://{host}{port}")


@given(NAMES, st.sampled_from(["http", "https"]))
def test_a_default_port_equals_no_port(host: str, scheme: str) -> None:
    default, other = {"http": ("80", "443"), "https": ("443", "80")}[scheme]
    origin = f"{scheme}://{host}"
    for page in (origin, f"{origin}:{default}"):
        assert is_same_origin(page, host)
        assert is_same_origin(page, f"{host}:{default}")
        assert not is_same_origin(page, f"{host}:{other}")
        assert not is_same_origin(page, f"x{host}")


def test_hostile_origins_cost_little_and_match_nothing() -> None:
    rules = OriginRules([normalized("https://*.a.example")])
    for text in ("*." * 10_000, "a" * 20_000, "a://" * 5_000, ":" * 20_000, "https://" + "a." * 10_000):
        assert not rules.admit(text)
        assert not is_same_origin(text, text)


# Behind a proxy

FORWARDED = {
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "a.example",
    "x-forwarded-prefix": "/tts",
}


async def test_forwarded_headers_of_a_trusted_proxy_are_the_clients_own(run: Run) -> None:
    async with run(trusted_proxies="127.0.0.0/8") as service, service.http() as http:
        own = await http.delete(
            "/api/v1/voices/none", headers={"origin": "https://a.example:443", **FORWARDED}
        )
        assert own.status_code == 404
        moved = await http.get("/health/", headers=FORWARDED)
        assert moved.headers["location"] == "https://a.example/tts/health"
        assert (await http.get("/openapi.json", headers=FORWARDED)).json()["servers"] == [{"url": "/tts"}]
        assert '"/tts/openapi.json"' in (await http.get("/docs", headers=FORWARDED)).text.replace("'", '"')
        async with service.client(origin="https://a.example", additional_headers=FORWARDED) as client:
            assert (await client.until("ready"))[0]


@pytest.mark.parametrize("trusted", ["", "192.0.2.1", "10.0.0.1/8,2001:db8::/32"])
async def test_forwarded_headers_of_any_other_peer_change_nothing(run: Run, trusted: str) -> None:
    async with run(trusted_proxies=trusted) as service, service.http() as http:
        own = await http.delete("/api/v1/voices/none", headers={"origin": "https://a.example", **FORWARDED})
        assert own.status_code == 403
        moved = await http.get("/health/", headers=FORWARDED)
        assert moved.headers["location"] == f"{service.url}/health"
        assert "servers" not in (await http.get("/openapi.json", headers=FORWARDED)).json()


async def test_a_prefix_changes_no_answer_of_any_route(run: Run, tmp_path: Path) -> None:
    async with run(trusted_proxies="*") as service, service.http() as http:
        for path in every_path(tmp_path):
            if path in ("/metrics", "/docs", "/openapi.json"):
                continue
            for method in ("GET", "POST", "DELETE"):
                body = b" " * 300_000 if method == "POST" else b""
                plain = await http.request(method, path, content=body)
                for prefix in ("/v1", "/a/b/"):
                    behind = await http.request(
                        method, path, content=body, headers={"x-forwarded-prefix": prefix}
                    )
                    assert (plain.status_code, plain.content) == (behind.status_code, behind.content), path


async def test_a_prefix_that_is_no_path_is_ignored(run: Run) -> None:
    async with run(trusted_proxies="*") as service, service.http() as http:
        for prefix in ("//evil.example", "tts", "/", "/a b", "/a//b", "https://evil.example", "/%2e", "/?"):
            moved = await http.get("/health/", headers={"x-forwarded-prefix": prefix})
            assert urlsplit(moved.headers["location"]).path == "/health", prefix


async def test_the_rate_limit_counts_the_clients_of_a_trusted_proxy(run: Run) -> None:
    async with run(trusted_proxies="127.0.0.1", connects_per_minute=1) as service:
        for address in ("203.0.113.1", "203.0.113.2, 127.0.0.1", "198.51.100.7, 203.0.113.3"):
            async with service.client(additional_headers={"x-forwarded-for": address}) as client:
                assert (await client.until("ready", "error"))[0]["type"] == "ready"
        async with service.client(additional_headers={"x-forwarded-for": "1.1.1.1, 203.0.113.3"}) as client:
            assert (await client.until("ready", "error"))[0]["type"] == "error"


@pytest.mark.parametrize("proxies", ["nginx", "localhost", "10.0.0.0/33", "10.0.0", "http://10.0.0.1"])
def test_a_proxy_that_is_no_address_is_refused(proxies: str) -> None:
    with pytest.raises(ValidationError, match=r"entry 2 is no address and no network"):
        Settings(_env_file=None, trusted_proxies=f"10.0.0.1,{proxies}")
