"""Saying one text into a file: what ``makima-tts say`` does.

In: a text and what voice to say it in. Out: a WAV file and its measurements. Does not know: the terminal.
"""

import asyncio
import contextlib
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import soundfile

from makima_tts import factory
from makima_tts.client import ServiceUnreachable, SpeakOptions, SpeechClient
from makima_tts.errors import InvalidMessage, InvalidText, TtsUnavailable
from makima_tts.listening import url_of
from makima_tts.metrics import Metrics
from makima_tts.protocol import Loading, Start, language_name
from makima_tts.settings import Settings, load_settings
from makima_tts.speech import LoadProgress, UtteranceRequest
from makima_tts.text import pieces_of

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
    _check_path(wanted.path)
    async with _server(url, load_settings(), tell) as address:
        start = Start(voice=wanted.voice, language=_language(wanted.language))
        on_loading = _progress_words(tell)
        async with SpeechClient.connect(_socket_url(address), start, on_loading=on_loading) as client:
            options: SpeakOptions = {} if wanted.seed is None else {"seed": wanted.seed}
            speech = client.speak(wanted.text, **options)
            with _wav(wanted.path, client.started.sample_rate) as file:
                async for chunk in speech:
                    file.write(np.frombuffer(chunk.pcm, "<i2"))
                audio_s = file.frames / file.samplerate
            return Said(wanted.path, audio_s, speech.ttfa_s or 0.0, client.started.warning)


async def in_process(wanted: Wanted, engine_name: str, model_id: str | None) -> Said:
    """With an engine of our own, no server. Raises what the engine raises, and InvalidMessage as above."""
    _check_path(wanted.path)
    chosen = {"engine": engine_name} | ({"model_id": model_id} if model_id else {})
    settings = Settings.model_validate({**load_settings().model_dump(), **chosen})
    if not (pieces := pieces_of(wanted.text)):
        raise InvalidText("There is nothing to speak in this text; send words or numbers.")
    engine = factory.build_engine(factory.choose_engine(settings), settings)
    voices = factory.build_voices(settings, engine, Metrics())
    try:
        await engine.start(lambda progress: None)
        voice = await (voices.resolve(None) if wanted.voice is None else voices.get(wanted.voice))
        began_s = time.monotonic()
        speech = engine.open(UtteranceRequest("say", _language(wanted.language), voice.prompt, wanted.seed))
        for piece in pieces:
            speech.feed(piece.text)
        speech.finish()
        ttfa_s: float | None = None
        with _wav(wanted.path, engine.facts.sample_rate_hz) as file:
            async for chunk in speech:
                ttfa_s = time.monotonic() - began_s if ttfa_s is None else ttfa_s
                file.write(np.clip(chunk.pcm, -1, 1))
            return Said(wanted.path, file.frames / file.samplerate, ttfa_s or 0.0, voice.warning)
    finally:
        await engine.close()


def _check_path(path: Path) -> None:
    if path.suffix.lower() != ".wav" or not os.access(path.parent, os.W_OK):
        raise InvalidMessage("Only a file that ends in .wav is written, in a folder that takes files.")


@contextlib.contextmanager
def _wav(path: Path, sample_rate_hz: int) -> Iterator[soundfile.SoundFile]:
    """Takes its name once it is whole: until then, and after a failure, what had that name stays."""
    unfinished = path.with_name(f".say-{os.getpid()}.wav")
    try:
        with soundfile.SoundFile(unfinished, "w", sample_rate_hz, 1, "PCM_16", format="WAV") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _language(wanted: str) -> str:
    name = language_name(wanted)
    if name is None:
        raise InvalidMessage("That is no language that this service knows; try English, ja or Auto.")
    return name


def _progress_words(tell: Callable[[str], None]) -> Callable[[Loading | LoadProgress], None]:
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


def _socket_url(url: str) -> str:
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
