"""The service's side of the process that aligns.

In: pieces to align. Out: their times, or none: too much to do, a failure and a text that does not fit are the
same to those who ask, for an estimate replaces each. Does not know: utterances, how alignment works.
"""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import structlog

# Seconds from the beginning of the piece.
Times = Sequence[tuple[float, float]]

# More would be late: estimates are told instead.
_MAX_WAITING = 8
_TIMEOUT_S = 10.0
_COMMAND = (sys.executable, "-m", "makima_tts.alignment")
_LANGUAGES = ("English", "Auto")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """``pcm``: int16 [samples], mono."""

    words: Sequence[str] = field(repr=False)
    pcm: npt.NDArray[np.int16] = field(repr=False)
    rate_hz: int
    whole: bool
    result: "asyncio.Future[Times]"

    def message(self) -> bytes:
        head = {"words": self.words, "samples": self.pcm.size, "rate_hz": self.rate_hz, "whole": self.whole}
        return json.dumps(head).encode() + b"\n" + self.pcm.astype("<i2").tobytes()


class Aligner:
    """Event loop only. The process starts once it is needed, and after a failure again with the next job."""

    def __init__(self, command: Sequence[str] = _COMMAND) -> None:
        self._command = command
        self._jobs = asyncio.Queue[_Job](_MAX_WAITING)
        self._working: asyncio.Task[None] | None = None

    @staticmethod
    def available() -> bool:
        """Whether the extra ``timings`` is installed."""
        return find_spec("pocketsphinx") is not None

    @staticmethod
    def aligns(language: str) -> bool:
        """Whether text of this language may be aligned; in text of any language, English is recognised."""
        return language in _LANGUAGES

    def start(self) -> None:
        """Its first result would be late if the process started with the first job. Idempotent."""
        if self._working is None:
            self._working = asyncio.create_task(self._work())

    def align(
        self, words: Sequence[str], pcm: npt.NDArray[np.int16], rate_hz: int, *, whole: bool
    ) -> "asyncio.Future[Times]":
        """See EnglishAligner.align. A result that is cancelled before its turn costs nothing."""
        self.start()
        result: asyncio.Future[Times] = asyncio.get_running_loop().create_future()
        try:
            self._jobs.put_nowait(_Job(words, pcm, rate_hz, whole, result))
        except asyncio.QueueFull:
            result.set_result(())
        return result

    async def close(self) -> None:
        """End the process. Idempotent."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})

    async def _work(self) -> None:
        job: _Job | None = None
        while True:
            try:
                await self._run(job)
            except (OSError, TimeoutError, ValueError) as failure:
                _log.warning("alignment_failed", error=type(failure).__name__)
                if job is not None and not job.result.done():  # the process could not be started
                    job.result.set_result(())
            job = await self._jobs.get()

    async def _run(self, job: _Job | None) -> None:
        """Job after job, until one fails. Raises OSError, TimeoutError, ValueError."""
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )
        try:
            while True:
                job = job or await self._jobs.get()
                await _serve(process, job)
                job = None
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _serve(process: Process, job: _Job) -> None:
    if job.result.done():
        return
    times_s: Times = ()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            times_s = await _answer(process, job.message())
    finally:
        if not job.result.done():
            job.result.set_result(times_s)


async def _answer(process: Process, message: bytes) -> Times:
    if process.stdin is None or process.stdout is None:
        raise OSError("The process has no pipes.")
    process.stdin.write(message)
    await process.stdin.drain()
    return [(start_s, end_s) for start_s, end_s in json.loads(await process.stdout.readline())]
