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
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from makima_tts.engines.utterance_tasks import UtteranceTasks
from makima_tts.errors import (
    GpuOutOfMemory,
    InvalidText,
    RateLimited,
    SynthesisError,
    TtsError,
    TtsUnavailable,
    VoiceNotFound,
)
from makima_tts.protocol import LANGUAGES
from makima_tts.speech import (
    AudioChunk,
    EngineFacts,
    EngineHealth,
    FinishReason,
    LoadProgress,
    ProgressReport,
    SpeechSink,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
)

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920
CHARACTER_SAMPLES = 1440
BUFFER_SAMPLES = 2 * SAMPLE_RATE_HZ
OWN_TONE_HZ = 220.0

_FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
_LEVEL = 0.25
_MARK = re.compile(r"\{(stall|endless|length|fail|oom|foreign|nan|slow \d+(?:\.\d+)?)\}")
_FAILURES: dict[str, type[TtsError]] = {"fail": SynthesisError, "oom": GpuOutOfMemory, "foreign": InvalidText}


class ScriptedEngine:
    """A SpeechEngine for tests. ``encodes`` counts the voices it has encoded.

    ``capacity``: utterances at once. Loading reports ``load_steps`` times and then waits for ``load_gate``;
    encoding waits for ``encode_gate``. ``fail_to_load``: ``start`` raises TtsUnavailable.
    """

    def __init__(
        self,
        *,
        cloning: bool = True,
        capacity: int | None = None,
        load_steps: int = 4,
        load_gate: asyncio.Event | None = None,
        encode_gate: asyncio.Event | None = None,
        fail_to_load: bool = False,
    ) -> None:
        self.encodes = 0
        self._facts = EngineFacts(
            name="scripted",
            model="test tone",
            fingerprint="scripted-1",
            sample_rate_hz=SAMPLE_RATE_HZ,
            languages=LANGUAGES,
            cloning=cloning,
            text_streaming=True,
            note="A test tone for trying clients without a model; it does not speak.",
        )
        self._utterances = UtteranceTasks(self._facts, buffer_samples=BUFFER_SAMPLES)
        self._capacity = capacity
        self._load_steps = load_steps
        self._load_gate = load_gate
        self._encode_gate = encode_gate
        self._fail_to_load = fail_to_load

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    async def start(self, report: ProgressReport) -> None:
        for step in range(self._load_steps):
            report(LoadProgress("tuning", step / self._load_steps))
        if self._load_gate is not None:
            await self._load_gate.wait()
        if self._fail_to_load:
            raise TtsUnavailable("The script says that the engine cannot be loaded.")
        _Tone(OWN_TONE_HZ).frame()
        self._utterances.admit()
        report(LoadProgress("tuned", 1.0))

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        """A tone of the reference's own, drawn from a digest of its sound and transcript."""
        if not self._facts.cloning:
            raise VoiceNotFound("This engine cannot clone voices.")
        if reference.mode == "icl" and not reference.transcript:
            raise VoiceNotFound("Cloning in mode icl needs the transcript of the clip.")
        self.encodes += 1
        if self._encode_gate is not None:
            await self._encode_gate.wait()
        digest = hashlib.sha256(reference.pcm.tobytes() + (reference.transcript or "").encode()).digest()
        tone_hz = 300 + int.from_bytes(digest[:2]) % 3000
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "tone_hz": np.array([tone_hz], np.float32),
            "digest": np.frombuffer(digest, np.uint8),
        }
        return VoicePrompt(self._facts.fingerprint, tensors)

    def open(self, request: UtteranceRequest) -> SpeechStream:
        if self._capacity is not None and self._utterances.health().active >= self._capacity:
            raise RateLimited("Every place is taken; try again shortly.", retry_after_s=1.0)
        return self._utterances.open(request, lambda sink: _ScriptedUtterance(_tone_hz(request)).speak(sink))

    def health(self) -> EngineHealth:
        return self._utterances.health()

    async def close(self) -> None:
        await self._utterances.close()


def _tone_hz(request: UtteranceRequest) -> float:
    """The voice's pitch plus an offset by the seed, so that both are audible."""
    voice_hz = OWN_TONE_HZ if request.voice is None else float(request.voice.tensors["tone_hz"][0])
    return voice_hz + (request.seed or 0) % 97


class _Tone:
    """A sine whose phase is continuous over the whole utterance."""

    def __init__(self, tone_hz: float) -> None:
        self._step = 2 * math.pi * tone_hz / SAMPLE_RATE_HZ
        self._position_samples = 0

    def frame(self) -> npt.NDArray[np.float32]:
        """The next float32 [FRAME_SAMPLES]."""
        positions = np.arange(self._position_samples, self._position_samples + FRAME_SAMPLES)
        self._position_samples += FRAME_SAMPLES
        pcm: npt.NDArray[np.float32] = (_LEVEL * np.sin(self._step * positions)).astype(np.float32)
        return pcm


@dataclass(frozen=True, slots=True)
class _Section:
    """Frames of tone, and the mark that follows them ("": none)."""

    frames: int
    mark: str


def _sections(piece: str) -> Iterator[_Section]:
    parts = iter((*_MARK.split(piece), ""))
    for text, mark in zip(parts, parts, strict=True):
        yield _Section(math.ceil(len(text.strip()) * CHARACTER_SAMPLES / FRAME_SAMPLES), mark)


class _ScriptedUtterance:
    """``frame_s``: how long each frame takes to make."""

    def __init__(self, tone_hz: float) -> None:
        self._tone = _Tone(tone_hz)
        self._frame_s = 0.0

    async def speak(self, sink: SpeechSink) -> FinishReason:
        index = 0
        while (piece := await sink.next_piece()) is not None:
            if await self._speak_piece(sink, piece, index) == "length":
                return "length"
            index += 1
        return "stop"

    async def _speak_piece(self, sink: SpeechSink, piece: str, index: int) -> FinishReason:
        frames_left = sum(section.frames for section in _sections(piece))
        for section in _sections(piece):
            for _ in range(section.frames):
                frames_left -= 1
                await self._put(sink, self._tone.frame(), index, ends_piece=frames_left == 0)
            if section.mark == "length":
                return "length"
            await self._follow(sink, section.mark, index)
        return "stop"

    async def _follow(self, sink: SpeechSink, mark: str, index: int) -> None:
        match mark.split():
            case ["stall"]:
                await asyncio.Event().wait()
            case ["endless"]:
                while True:
                    await self._put(sink, self._tone.frame(), index)
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
