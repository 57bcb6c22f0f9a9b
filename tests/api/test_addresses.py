"""Addresses: HEAD wherever there is GET, and what unknown ones are answered."""

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from makima_tts.engines import ScriptedEngine
from makima_tts.factory import build_app, build_service
from makima_tts.settings import Settings
from tests.api.service import RunningService


def gets(settings: Settings) -> list[str]:
    """The path of every route that answers to GET."""
    app = build_app(settings, build_service(settings, ScriptedEngine()))
    routers = [app, *(getattr(route, "original_router", app) for route in app.routes)]
    routes = [route for router in routers for route in router.routes if isinstance(route, Route | APIRoute)]
    return sorted({route.path for route in routes if "GET" in (route.methods or ())})


async def test_head_is_get_without_the_body_on_every_route(service: RunningService) -> None:
    paths = [*gets(Settings(_env_file=None)), "/static/speak.html", "/nowhere", "/api/v1/tts"]
    assert len(paths) > 12
    async with service.http() as http:
        for pattern in paths:
            path = pattern.replace("{voice_id}", "narrator").replace("{model_id:path}", "tts-1")
            got, head = await http.get(path), await http.head(path)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            if path != "/metrics":
                for name in ("content-type", "content-length", "location", "allow", "etag"):
                    assert head.headers.get(name) == got.headers.get(name), (path, name)


@pytest.mark.parametrize(
    "path", ["/audio/speech", "/v1/v1/audio/speech", "/api/v1/audio/speech", "/audio/speech/"]
)
async def test_an_address_of_openai_without_its_v1_is_404_and_names_it(
    service: RunningService, path: str
) -> None:
    async with service.http() as http:
        answer = await http.post(path, json={"input": "Hi."})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
        assert "/v1/audio/speech." in answer.json()["error"]["message"]
        assert "/v1/models." in (await http.get("/models")).json()["error"]["message"]
        assert "/v1/audio/voices." in (await http.get("/audio/voices")).json()["error"]["message"]
        assert "/v1" not in (await http.get("/nowhere")).json()["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/api/v1/speech", "/audio/speech/stream", "/static/speak.html", "/v1"])
async def test_a_websocket_at_an_unknown_path_is_404(service: RunningService, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(service.url.replace("http", "ws") + path):
            pass
    assert refused.value.response.status_code == 404
    assert b"/api/v1/speak" in (refused.value.response.body or b"")
