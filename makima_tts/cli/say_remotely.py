"""``makima-tts say`` through a server.

In: a text and the voice to say it in. Out: a WAV file and its measurements. Does not know: the terminal.
"""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

from makima_tts.cli.say import SayRequest, SayResult
from makima_tts.client import ServiceUnreachable, SpeakOptions, SpeechClient
from makima_tts.errors import InvalidMessage, TtsUnavailable
from makima_tts.protocol import Start
from makima_tts.server.sockets import url_of
from makima_tts.settings import Settings, load_settings

_CONNECT_TIMEOUT_S = 1.0
_SPEAK_PATH = "/api/v1/speak"
_SOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


async def speak(request: SayRequest, url: str | None, show_status: Callable[[str], None]) -> SayResult:
    """Through the WebSocket of ``url``, of the configured server, or of one started for the purpose.

    Raises ClientError; InvalidMessage for a bad address; TtsUnavailable when the server cannot be started.
    """
    async with _server(url, load_settings(), show_status) as address:
        start = Start(voice=request.voice, language=request.language)
        async with SpeechClient.connect(
            socket_url(address),
            start,
            on_loading=lambda report: show_status(f"Loading: {report.stage} {report.progress:.0%}"),
        ) as client:
            options: SpeakOptions = {} if request.seed is None else {"seed": request.seed}
            speech = client.speak(request.text, **options)
            await speech.save(request.path)
            return speech.audio_ms / 1000, speech.ttfa_s or 0.0, client.started.warning


@contextlib.asynccontextmanager
async def _server(
    url: str | None, settings: Settings, show_status: Callable[[str], None]
) -> AsyncIterator[str]:
    if url is not None:
        yield url
        return
    configured = url_of(settings.host, settings.port)
    if await _answers(configured):
        yield configured
        return
    show_status("Starting a server …")
    async with _temporary_server() as address:
        yield address


def socket_url(url: str) -> str:
    """The address of the WebSocket of the server at ``url``, which may be that address itself."""
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
