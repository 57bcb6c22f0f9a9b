"""An engine that speaks a test tone, directed by marks in the text.

In: pieces of text. Out: a sine, 60 ms for each character, in frames of 80 ms. Does not know: any model.

Clients are tested against it without a model, and the service against an engine that fails. A mark acts where
it stands in the text, and is not spoken itself:

=================  ==================================================================================
``{stall}``        no more sound until cancelled
``{endless}``      sound without end
``{length}``       ends at once, as if the longest allowed length had been reached
``{fail}``         SynthesisError
``{oom}``          GpuOutOfMemory
``{foreign}``      InvalidText, as for text that the engine cannot speak
``{nan}``          a frame that is not a number
``{slow 0.5}``     from here on each second of sound takes half a second; without it, no time at all
=================  ==================================================================================
"""

import asyncio
import hashlib
import math
import re
from collections.abc import Iterator
from itertools import count

import numpy as np
import numpy.typing as npt

from makima_tts.engines.pieces import PieceEngine
from makima_tts.errors import GpuOutOfMemory, InvalidText, SynthesisError, TtsError
from makima_tts.protocol import LANGUAGES
from makima_tts.speech import (
    AudioChunk,
    EngineFacts,
    FinishReason,
    ProgressReport,
    SpeechSink,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
    check_reference,
)

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920
CHARACTER_SAMPLES = 1440
BUFFER_SAMPLES = 2 * SAMPLE_RATE_HZ
OWN_TONE_HZ = 220.0

_FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
_LEVEL = 0.25
_LOAD_STEPS = 4
_MARK = re.compile(r"\{(stall|endless|length|fail|oom|foreign|nan|slow \d+(?:\.\d+)?)\}")
_FAILURES: dict[str, type[TtsError]] = {"fail": SynthesisError, "oom": GpuOutOfMemory, "foreign": InvalidText}


class ScriptedEngine(PieceEngine):
    """A SpeechEngine for clients that are tried out, and for tests."""

    def __init__(self) -> None:
        facts = EngineFacts(
            name="scripted",
            model="test tone",
            fingerprint="scripted-1",
            sample_rate_hz=SAMPLE_RATE_HZ,
            languages=LANGUAGES,
            note="A test tone for trying clients without a model; it does not speak.",
        )
        super().__init__(facts, buffer_samples=BUFFER_SAMPLES)

    async def start(self, report: ProgressReport) -> None:
        for step in range(_LOAD_STEPS):
            report("tuning", step / _LOAD_STEPS)
        self._admit()
        report("tuned", 1.0)

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        """A tone of the reference's own, drawn from a digest of its sound and transcript."""
        check_reference(reference)
        digest = hashlib.sha256(reference.pcm.tobytes() + (reference.transcript or "").encode()).digest()
        tone_hz = 300 + int.from_bytes(digest[:2]) % 3000
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "tone_hz": np.array([tone_hz], np.float32),
            "digest": np.frombuffer(digest, np.uint8),
        }
        return VoicePrompt(self.facts.fingerprint, tensors)

    async def _speak(self, request: UtteranceRequest, sink: SpeechSink) -> FinishReason:
        return await _ScriptedUtterance(_tone_hz(request)).speak(sink)


def _tone_hz(request: UtteranceRequest) -> float:
    """The voice's pitch plus an offset by the seed, so that both are audible."""
    voice_hz = OWN_TONE_HZ if request.voice is None else float(request.voice.tensors["tone_hz"][0])
    return voice_hz + (request.seed or 0) % 97


def _tone(tone_hz: float) -> Iterator[npt.NDArray[np.float32]]:
    """Frames of a sine whose phase is continuous, float32 [FRAME_SAMPLES] each, without end."""
    step = 2 * math.pi * tone_hz / SAMPLE_RATE_HZ
    for start_samples in count(0, FRAME_SAMPLES):
        positions = np.arange(start_samples, start_samples + FRAME_SAMPLES)
        yield (_LEVEL * np.sin(step * positions)).astype(np.float32)


def _sections(piece: str) -> Iterator[tuple[int, str]]:
    """Frames of tone, and the mark that follows them ("": none)."""
    parts = iter((*_MARK.split(piece), ""))
    for text, mark in zip(parts, parts, strict=True):
        yield math.ceil(len(text.strip()) * CHARACTER_SAMPLES / FRAME_SAMPLES), mark


class _ScriptedUtterance:
    """``frame_s``: how long each frame takes to make."""

    def __init__(self, tone_hz: float) -> None:
        self._tone = _tone(tone_hz)
        self._frame_s = 0.0

    async def speak(self, sink: SpeechSink) -> FinishReason:
        index = 0
        while (piece := await sink.next_piece()) is not None:
            if await self._speak_piece(sink, piece, index) == "length":
                return "length"
            index += 1
        return "stop"

    async def _speak_piece(self, sink: SpeechSink, piece: str, index: int) -> FinishReason:
        frames_left = sum(frames for frames, _mark in _sections(piece))
        for frames, mark in _sections(piece):
            for _ in range(frames):
                frames_left -= 1
                await self._put(sink, next(self._tone), index, ends_piece=frames_left == 0)
            if mark == "length":
                return "length"
            await self._follow(sink, mark, index)
        return "stop"

    async def _follow(self, sink: SpeechSink, mark: str, index: int) -> None:
        match mark.split():
            case ["stall"]:
                await asyncio.Event().wait()
            case ["endless"]:
                while True:
                    await self._put(sink, next(self._tone), index)
            case ["nan"]:
                await self._put(sink, np.full(FRAME_SAMPLES, np.nan, np.float32), index)
            case ["slow", rtf]:
                self._frame_s = float(rtf) * _FRAME_S
            case [failure]:
                raise _FAILURES[failure]("The text's own script ends this utterance.")

    async def _put(
        self, sink: SpeechSink, pcm: npt.NDArray[np.float32], index: int, *, ends_piece: bool = False
    ) -> None:
        await asyncio.sleep(self._frame_s)
        if await sink.credit():
            sink.put(AudioChunk(pcm, index, ends_piece, synthesis_s=self._frame_s))
