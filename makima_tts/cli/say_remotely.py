"""``makima-tts say`` through a server.

In: a text and the voice to say it in. Out: a WAV file and its measurements. Does not know: the terminal.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from makima_tts.cli.say import SayRequest, SayResult
from makima_tts.client import SpeakOptions, SpeechClient
from makima_tts.errors import InvalidMessage, TtsUnavailable
from makima_tts.protocol import Start
from makima_tts.server.process import url_of
from makima_tts.settings import load_settings

_CONNECT_TIMEOUT_S = 1.0
_SPEAK_PATH = "/api/v1/speak"
_SOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


async def speak(request: SayRequest, url: str | None, show_status: Callable[[str], None]) -> SayResult:
    """Through the WebSocket of ``url``, of the configured server, or of one started for the purpose.

    Raises ClientError; InvalidMessage for a bad address; TtsUnavailable when the server cannot be started.
    """
    async with _server(url, show_status) as address:
        start = Start(voice=request.voice, language=request.language)
        async with SpeechClient.connect(
            socket_url(address),
            start,
            on_loading=lambda report: show_status(f"Loading: {report.stage} {report.progress:.0%}"),
        ) as client:
            options: SpeakOptions = {} if request.seed is None else {"seed": request.seed}
            if request.word_times:
                options["timings"] = "word"
            speech = client.speak(request.text, **options)
            await speech.save(request.path)
            warning = client.started.warning
            return SayResult(speech.audio_ms / 1000, speech.ttfa_s or 0.0, warning, speech.words)


@asynccontextmanager
async def _server(url: str | None, show_status: Callable[[str], None]) -> AsyncIterator[str]:
    """The address of a server. One that is started here has a free port and ends with this process."""
    settings = load_settings()
    address = url_of(settings.host, settings.port) if url is None else url
    if url is not None or await _answers(address):
        yield address
        return
    show_status("Starting a server …")
    serve = [sys.executable, "-m", "makima_tts", "serve", "--host", "127.0.0.1", "--port", "0"]
    quiet = {**os.environ, "TTS_LOG_LEVEL": "error"}
    process = await asyncio.create_subprocess_exec(*serve, stdout=PIPE, env=quiet)
    try:
        first_line = (await process.stdout.readline()).decode() if process.stdout else ""
        if "http://" not in first_line:
            raise TtsUnavailable("The server did not start; its log above says why.")
        yield "http://" + first_line.split("http://")[1].strip()
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


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
