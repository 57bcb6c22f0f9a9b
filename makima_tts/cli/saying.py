"""Saying one text into a file through a server: what ``makima-tts say`` does.

In: a text and what voice to say it in. Out: a WAV file and its measurements. Does not know: the terminal.
"""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from makima_tts.client import ServiceUnreachable, SpeakOptions, SpeechClient
from makima_tts.errors import InvalidMessage, TtsUnavailable
from makima_tts.protocol import Loading, Start, language_name
from makima_tts.server.sockets import url_of
from makima_tts.settings import Settings, load_settings

_CONNECT_TIMEOUT_S = 1.0
_SPEAK_PATH = "/api/v1/speak"
_SOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """``language`` is a name or a tag; ``voice`` None is the default voice."""

    text: str = field(repr=False)
    path: Path
    voice: str | None
    language: str
    seed: int | None


@dataclass(frozen=True, slots=True)
class Said:
    """``ttfa_s``: from asking to the first audio."""

    path: Path
    audio_s: float
    ttfa_s: float
    warning: str | None = None


async def through_server(wanted: Wanted, url: str | None, tell: Callable[[str], None]) -> Said:
    """Through the real WebSocket of ``url``, of the configured server, or of one started for the purpose.

    Raises ClientError; InvalidMessage for what cannot be meant; TtsUnavailable when the server cannot be
    started.
    """
    check_path(wanted.path, ".wav")
    async with _server(url, load_settings(), tell) as address:
        start = Start(voice=wanted.voice, language=known_language(wanted.language))
        on_loading = _progress_words(tell)
        async with SpeechClient.connect(socket_url(address), start, on_loading=on_loading) as client:
            options: SpeakOptions = {} if wanted.seed is None else {"seed": wanted.seed}
            speech = client.speak(wanted.text, **options)
            await speech.save(wanted.path)
            warning = client.started.warning
            return Said(wanted.path, speech.audio_ms / 1000, speech.ttfa_s or 0.0, warning)


def check_path(path: Path, suffix: str) -> None:
    """Raises InvalidMessage for what will not be written."""
    if path.suffix.lower() != suffix or not os.access(path.parent, os.W_OK):
        raise InvalidMessage(f"Only a file that ends in {suffix} is written, in a folder that takes files.")


def known_language(wanted: str) -> str:
    """Raises InvalidMessage."""
    name = language_name(wanted)
    if name is None:
        raise InvalidMessage("That is no language that this service knows; try English, ja or Auto.")
    return name


def _progress_words(tell: Callable[[str], None]) -> Callable[[Loading], None]:
    return lambda report: tell(f"Loading: {report.stage} {report.progress:.0%}")


@contextlib.asynccontextmanager
async def _server(url: str | None, settings: Settings, tell: Callable[[str], None]) -> AsyncIterator[str]:
    if url is not None:
        yield url
        return
    configured = url_of(settings.host, settings.port)
    if await _answers(configured):
        yield configured
        return
    tell("Starting a server …")
    async with _temporary_server() as address:
        yield address


def socket_url(url: str) -> str:
    """Where the server at ``url`` speaks; ``url`` may say so itself."""
    try:
        where = urlsplit(url)
        usable = where.scheme in _SOCKET_SCHEMES and where.hostname and where.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidMessage("That is no address of a server; try one such as http://127.0.0.1:8001.")
    path = where.path.rstrip("/").removesuffix(_SPEAK_PATH) + _SPEAK_PATH
    return where._replace(scheme=_SOCKET_SCHEMES[where.scheme], path=path).geturl()


async def _answers(url: str) -> bool:
    where = urlsplit(url)
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(where.hostname, where.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


@contextlib.asynccontextmanager
async def _temporary_server() -> AsyncIterator[str]:
    """The real thing in a process of its own, on a free port, ended with this one."""
    serve = [sys.executable, "-m", "makima_tts", "serve", "--host", "127.0.0.1", "--port", "0"]
    quiet = {**os.environ, "TTS_LOG_LEVEL": "error"}
    process = await asyncio.create_subprocess_exec(*serve, stdout=PIPE, env=quiet)
    try:
        yield await _address_of(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def _address_of(process: Process) -> str:
    if process.stdout is None:
        raise ServiceUnreachable("The server's output cannot be read.")
    first_line = (await process.stdout.readline()).decode()
    if "http://" not in first_line:
        raise TtsUnavailable("The server did not start; its log above says why.")
    return "http://" + first_line.split("http://")[1].strip()
