"""``makima-tts serve`` and ``makima-tts wyoming``: they run until Ctrl-C.

In: addresses, the settings. Out: a running server or bridge, and a greeting. Does not know: how either works.
"""

import asyncio
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from makima_tts import __version__
from makima_tts.errors import VoiceNotFound

if TYPE_CHECKING:
    from makima_tts.api.service import Service
    from makima_tts.factory import EngineChoice


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; else TTS_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on, 0 for a free one; else TTS_PORT.")
    ] = None,
) -> None:
    """Serve the WebSocket /api/v1/speak and the speak page until Ctrl-C.

    Everything else is set by TTS_* variables; .env.example names them all.
    """
    from makima_tts import factory, logs
    from makima_tts.server import process as server
    from makima_tts.settings import load_settings

    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    choice = factory.choose_engine(settings)
    service = factory.build_service(settings, factory.build_engine(choice, settings))
    server.run(
        factory.build_app(settings, service),
        service,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
        stall_timeout_s=settings.stall_timeout_s,
        drain_timeout_s=settings.drain_timeout_s,
        on_listening=lambda url: _greet(url, choice, service),
    )


def wyoming(
    uri: Annotated[str, typer.Option(help="Where Wyoming clients connect.")] = "tcp://127.0.0.1:10200",
    server: Annotated[
        str | None, typer.Option(help="A running server, such as http://127.0.0.1:8001; else as TTS_* say.")
    ] = None,
) -> None:
    """Let Home Assistant speak through a running server: bridge its Wyoming protocol until Ctrl-C.

    While the server is away, requests get an error; the next one tries again. Any client of the address may
    speak; Home Assistant on another machine needs one that it can reach, such as tcp://0.0.0.0:10200.
    """
    if find_spec("wyoming") is None:
        sys.exit("This needs the package wyoming: pip install 'makima-tts[wyoming]'.")
    from makima_tts import wyoming as bridge
    from makima_tts.cli.say_remotely import socket_url
    from makima_tts.server.process import url_of
    from makima_tts.settings import load_settings

    settings = load_settings()
    service_url = socket_url(server or url_of(settings.host, settings.port))
    asyncio.run(bridge.serve(uri, service_url, _greet_wyoming))


def _greet(url: str, choice: "EngineChoice", service: "Service") -> None:
    """The first line is for programs (``say`` reads it), the rest for people."""
    typer.echo(f"makima-tts {__version__} serves on {url}")
    typer.echo(f"  speak page  {url}/speak")
    typer.echo(f"  engine      {choice.name}: {service.engine.facts.model} ({choice.reason})")
    typer.echo(f"  voice       {_expected_voice(service)}")
    if choice.name == "preview":
        typer.echo(f"  note        {service.engine.facts.note}")
    if choice.lacks:
        typer.echo(f"  Qwen3-TTS   lacks {'; '.join(choice.lacks)}")
    sys.stdout.flush()


def _expected_voice(service: "Service") -> str:
    try:
        return service.voices.expect().id
    except VoiceNotFound as error:
        return error.message


def _greet_wyoming(uri: str, service_url: str) -> None:
    typer.echo(f"makima-tts {__version__} speaks Wyoming on {uri}")
    typer.echo(f"  for the server at {service_url}")
    sys.stdout.flush()
