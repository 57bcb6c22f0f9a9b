"""For operators, orchestrators and people with a browser.

In: GETs. Out: health, readiness, metrics, the page. Does not know: sessions.
"""

from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import BaseModel

from makima_tts.api.failures import ErrorBody
from makima_tts.api.service import Service
from makima_tts.errors import TtsUnavailable
from makima_tts.metrics import CONTENT_TYPE

STATIC = Path(__file__).parents[1] / "static"


class Health(BaseModel):
    """The process lives; whether it can speak is ``/ready``'s to say."""

    status: str = "ok"


class Readiness(BaseModel):
    """An utterance was synthesized after loading."""

    status: str = "ready"
    engine: str
    model: str
    voice: str


def ops_router(service: Service) -> APIRouter:
    """``/health``, ``/ready``, ``/metrics``, ``/speak``."""
    router = APIRouter()

    @router.get("/health", tags=["operations"])
    async def health() -> Health:
        return Health()

    @router.get("/ready", tags=["operations"], responses={503: {"model": ErrorBody}})
    async def ready() -> Readiness:
        if service.draining_until_s is not None:
            raise TtsUnavailable("The service is shutting down.")
        report = service.life.require_ready()
        health = service.engine.health()
        if not health.alive:
            raise TtsUnavailable(f"The engine is down: {health.reason}.")
        return Readiness(engine=report.engine, model=report.model, voice=report.voice)

    @router.get("/metrics", tags=["operations"], response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    @router.get("/speak", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "speak.html")

    @router.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/speak")

    return router
