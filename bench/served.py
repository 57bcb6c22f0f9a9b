"""A real server with a Qwen3-TTS, measured from a client.

In: a running server, or a checkpoint and a precision. Out: figures by name: one stream, live streams, how
soon a slot is free for another utterance, underruns while others come or a voice is encoded. Does not know:
the model's parts, the reference package.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from statistics import median

import httpx

from bench.listeners import START, ListenerResult, closed_load, listen
from bench.load import ConcurrencyLevel, find_live_streams, mib_per_stream
from bench.report import log
from bench.server import Server, ServerOptions, home, serving
from bench.voice import TEXT, TRANSCRIPT, clip_file
from makima_tts.client import ServiceError, SpeechClient
from makima_tts.model import CpuPrecision

_RETRY_S = 0.005
# The same speech each time, since the length of its silent beginning varies.
_SEED = 7
_UPLOAD_TIMEOUT_S = 600.0
_TEXTS = {"five seconds": TEXT}
_upload_number = count()

# A value for each run.
Figures = dict[str, list[float]]


async def next_turn_ms(url: str, text: str, *, disconnects: bool) -> float:
    """Of a server with one slot: time from a cancel or disconnect to the first audio of the next utterance.

    The time to first sound of an utterance alone is subtracted.
    """
    async with SpeechClient.connect(url, START) as waiting:
        await _first_sound_s(waiting, text)  # warm-up
        alone_s = await _first_sound_s(waiting, text)
        async with SpeechClient.connect(url, START) as speaking:
            speech = speaking.speak(text)
            await anext(speech)
            began_s = time.monotonic()
            if disconnects:
                await speaking.close()
            else:
                await speech.cancel()
            await _first_sound_s(waiting, text)
            return (time.monotonic() - began_s - alone_s) * 1e3


async def _first_sound_s(client: SpeechClient, text: str) -> float:
    """Retries until the utterance is accepted; cancels it after its first chunk."""
    began_s = time.monotonic()
    while True:
        speech = client.speak(text, seed=_SEED)
        try:
            await anext(speech)
        except ServiceError as refusal:
            if refusal.code != "RATE_LIMITED":
                raise
            await asyncio.sleep(_RETRY_S)
        else:
            first_sound_s = time.monotonic() - began_s
            await speech.cancel()
            with suppress(ServiceError):
                async for _chunk in speech:
                    pass
            return first_sound_s


async def next_turns_ms(url: str, text: str, runs: int) -> dict[str, float]:
    """Figures of a server with one slot."""
    return {
        f"{name} to another's turn, ms": median(
            [await next_turn_ms(url, text, disconnects=disconnects) for _ in range(runs)]
        )
        for name, disconnects in (("cancel", False), ("disconnect", True))
    }


async def _interference(
    server: Server, texts: Mapping[str, str], streams: int, listen_s: float
) -> dict[str, list[ListenerResult]]:
    """A number of streams: alone; while another joins; while a voice is encoded."""

    async def speaking() -> list[ListenerResult]:
        return (await closed_load(server.url, streams, listen_s, texts))[0]

    async def joining() -> list[ListenerResult]:
        await asyncio.sleep(listen_s / 2)
        return [await listen(server.url, next(iter(texts)), texts)]

    alone = await speaking()
    together, joined = await asyncio.gather(speaking(), joining())
    beside, _ = await asyncio.gather(speaking(), _upload_voice(server))
    return {"alone": alone, "another joins": [*together, *joined], "a voice is encoded": beside}


async def _upload_voice(server: Server) -> None:
    """A new voice each time, since a known one is not encoded again."""
    number = next(_upload_number)
    async with httpx.AsyncClient(base_url=server.address, timeout=_UPLOAD_TIMEOUT_S) as client:
        answer = await client.post(
            "/api/v1/voices",
            files={"audio": ("clip.wav", clip_file(), "audio/wav")},
            data={"name": f"sent {number}", "transcript": f"{TRANSCRIPT} {number}"},
        )
        answer.raise_for_status()


def _gaps(by_case: Mapping[str, list[ListenerResult]], streams: int) -> dict[str, float]:
    """Figures: the number of underruns, and the longest gap."""
    figures: dict[str, float] = {"streams beside whom others come": streams}
    for case, results in by_case.items():
        late_ms = [1e3 * lateness_s for each in results for lateness_s in each.lateness_s]
        figures[f"underruns, {case}"] = sum(each.underruns for each in results)
        figures[f"longest gap, {case}, ms"] = max(late_ms, default=0.0)
    return figures


def measure_service(
    options: argparse.Namespace,
    precision: CpuPrecision,
    *,
    after_each: Callable[[], None],
) -> tuple[Figures, list[ConcurrencyLevel]]:
    """``options``: of ``bench.compare``. ``after_each``: called after every single utterance."""
    figures: Figures = {}

    def server_options(streams: int) -> ServerOptions:
        return ServerOptions(options.checkpoint, precision, options.device, options.threads, streams)

    with home() as folder:
        log(f"a server with one slot, {precision} …")
        with serving(server_options(1), folder) as server:
            figures["start to ready, with a voice to encode, s"] = [server.start_s]
            _add(figures, asyncio.run(next_turns_ms(server.url, TEXT, options.runs)))
        log(f"a server with {options.most} slots, {precision} …")
        with serving(server_options(options.most), folder) as server:
            figures["start to ready, s"] = [server.start_s]
            figures["memory when ready, MiB"] = [server.resident_mib()]
            for _ in range(options.runs):
                _add(figures, _single_stream(asyncio.run(listen(server.url, "five seconds", _TEXTS))))
                after_each()
            levels = asyncio.run(_live_streams(server, options, figures))
            figures["memory at most, MiB"] = [server.resident_mib(peak=True)]
    return figures, levels


def _single_stream(result: ListenerResult) -> dict[str, float]:
    assert result.error is None, result.error
    assert result.ttfa_s is not None
    assert result.rtf is not None
    return {
        "RTF, one stream": result.rtf,
        "TTFA, one stream, ms": result.ttfa_s * 1e3,
        "audio, one stream, s": result.audio_s,
    }


async def _live_streams(
    server: Server, options: argparse.Namespace, figures: Figures
) -> list[ConcurrencyLevel]:
    found, levels = await find_live_streams(
        server.url,
        START,
        _TEXTS,
        most=options.most,
        runs=options.runs,
        listen_s=options.listen,
        resident_mib=lambda: server.resident_mib(peak=True),
    )
    figures["live streams without a gap"] = [float(streams) for streams in found]
    if (growth_mib := mib_per_stream(levels)) is not None:
        figures["memory of a further stream, MiB"] = [growth_mib]
    streams = max(1, sorted(found)[len(found) // 2] - 1)
    log(f"others come while {streams} speak …")
    _add(figures, _gaps(await _interference(server, _TEXTS, streams, options.listen), streams))
    return levels


def _add(figures: Figures, more: Mapping[str, float]) -> None:
    for name, value in more.items():
        figures.setdefault(name, []).append(value)
