"""The SpeechEngine protocol, and the bridge between an engine and the event loop.

In: voices, pieces of text and cancels from the loop; chunks from an engine, on any thread. Out: the same on
the other side, bounded by credit. Does not know: how any engine speaks, who listens, any wire.

The engine holds the :class:`SpeechSink`, the caller the :class:`SpeechStream`. Text is bounded by the session
(an utterance's limit), audio by credit: once ``buffer_samples`` are not taken yet, the sink has no credit,
and an engine leaves the utterance out of its next iteration. Chunks cross by ``call_soon_threadsafe`` only,
so neither side waits for a lock.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from makima_tts.audio import Pcm
from makima_tts.errors import Cancelled, InvalidText, SynthesisError, TtsError, VoiceNotFound

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """``pcm``: [samples], mono, at the engine's rate. A chunk belongs to one piece.

    It is empty where a piece turns out to be finished after its last sound was delivered: no sound is held
    back for that.

    ``synthesis_s``: the engine's time for it, for the real-time factor. ``waited_for_text``: it could not
    come sooner for want of text, so it is not late.
    """

    pcm: Pcm = field(repr=False)
    piece_index: int
    ends_piece: bool = False
    synthesis_s: float = 0.0
    waited_for_text: bool = False


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of one piece, or a part of it. The last part may be empty."""

    text: str = field(repr=False)
    ends_piece: bool = True


class SpeechSink:
    """The engine's half; every method may be called from any thread unless it is ``async``.

    ``cancelled``: the caller has cancelled; stop, free everything, put nothing more. ``text_closed``: no text
    will come but what ``take_part`` or ``take_piece`` still returns. ``fed_chars``: the length of all text so
    far, including what was taken. ``wake_engine`` is called, on the loop, when text, credit or a cancel
    arrives.
    """

    def __init__(self, buffer_samples: int, wake_engine: Callable[[], None]) -> None:
        # Only the loop's thread changes these; the caller's half uses them, too.
        self.cancelled = False
        self.text_closed = False
        self.fed_chars = 0
        self.piece_is_open = False
        self.parts: deque[TextPart] = deque()
        self.taken_samples = 0
        self.chunks: deque[AudioChunk] = deque()
        self.finish_reason: FinishReason | None = None
        self.error: TtsError | None = None
        self.for_caller = asyncio.Event()
        # Only the engine's side changes these.
        self.put_samples = 0
        # What the engine left out of the text, in words for people.
        self.warning: str | None = None
        self._piece_parts: list[str] = []
        self._buffer_samples = buffer_samples
        self._wake_engine = wake_engine
        self._for_engine = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def has_credit(self) -> bool:
        return self.put_samples - self.taken_samples < self._buffer_samples

    def take_part(self) -> TextPart | None:
        """The next part of a piece, or None if none is there. For engines that speak incomplete pieces.

        A piece that was begun is ended, if only by an empty part, before ``text_closed`` is true.
        """
        # A cancel may clear them at any moment.
        with contextlib.suppress(IndexError):
            return self.parts.popleft()
        return None

    def take_piece(self) -> str | None:
        """The next piece, once all of it has come, else None."""
        while (part := self.take_part()) is not None:
            self._piece_parts.append(part.text)
            if part.ends_piece:
                piece = "".join(self._piece_parts)
                self._piece_parts.clear()
                return piece
        return None

    async def next_piece(self) -> str | None:
        """Waits for the next piece; None at the end of the text, or when cancelled. Loop only."""
        while not self.cancelled:
            if (piece := self.take_piece()) is not None:
                return piece
            if self.text_closed:
                return None
            await self._change()
        return None

    async def credit(self) -> bool:
        """Waits for credit; False when cancelled instead. Loop only."""
        while not self.cancelled:
            if self.has_credit:
                return True
            await self._change()
        return False

    async def _change(self) -> None:
        self._for_engine.clear()
        await self._for_engine.wait()

    def wake(self) -> None:
        """Something has changed for the engine. Loop only."""
        self._for_engine.set()
        self._wake_engine()

    def put(self, chunk: AudioChunk) -> None:
        """Never waits; an engine asks ``has_credit`` before it makes a chunk."""
        self.put_samples += chunk.pcm.size
        self._on_loop(lambda: self._deliver(chunk))

    def end(self, reason: FinishReason = "stop") -> None:
        """All audio was put."""
        self._on_loop(lambda: self._close(reason, None))

    def fail(self, error: TtsError) -> None:
        """No more audio; ``error`` is raised to the caller after the chunks that were put."""
        self._on_loop(lambda: self._close(None, error))

    def _on_loop(self, act: Callable[[], None]) -> None:
        """In the order of the calls, whichever threads they come from: all take the loop's queue."""
        # The loop may close between any check and the call: a service can stop while an engine generates.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act)

    def _deliver(self, chunk: AudioChunk) -> None:
        if not self.cancelled:
            self.chunks.append(chunk)
            self.for_caller.set()

    def _close(self, reason: FinishReason | None, error: TtsError | None) -> None:
        if self.finish_reason is None and self.error is None:
            self.finish_reason, self.error = reason, error
            self.for_caller.set()


class SpeechStream:
    """The caller's half: feed pieces, take chunks, cancel. Loop only."""

    def __init__(self, sink: SpeechSink) -> None:
        self._sink = sink

    @classmethod
    def create(
        cls, *, buffer_samples: int, wake_engine: Callable[[], None] = lambda: None
    ) -> tuple["SpeechStream", SpeechSink]:
        """Both halves."""
        sink = SpeechSink(buffer_samples, wake_engine)
        return cls(sink), sink

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended, once iteration has ended without an error."""
        return self._sink.finish_reason

    @property
    def warning(self) -> str | None:
        """What the engine left out of the text, in words for people; it quotes none of it."""
        return self._sink.warning

    def feed(self, text: str, *, ends_piece: bool = True) -> None:
        """Append a piece of cleaned text, or a part of one; ignored once finished or cancelled.

        The parts of a piece, joined, are the piece. They are split where words end, before white space, so
        that a part is tokenized alike whatever follows it.
        """
        sink = self._sink
        if sink.text_closed:
            return
        sink.parts.append(TextPart(text, ends_piece))
        sink.piece_is_open = not ends_piece
        sink.fed_chars += len(text)
        sink.wake()

    def finish(self) -> None:
        """No more text will come: an open piece is complete. Idempotent."""
        if self._sink.piece_is_open:
            self.feed("")
        self._sink.text_closed = True
        self._sink.wake()

    def cancel(self) -> None:
        """Drops all text and chunks at once. Idempotent; iteration raises Cancelled from now on."""
        sink = self._sink
        if sink.cancelled:
            return
        sink.cancelled = sink.text_closed = True
        sink.parts.clear()
        sink.chunks.clear()
        sink.wake()
        sink.for_caller.set()

    def __aiter__(self) -> "SpeechStream":
        return self

    async def __anext__(self) -> AudioChunk:
        """The next chunk, in order. Raises what the engine failed with, or Cancelled.

        A chunk with NaN or Inf raises SynthesisError: it must never be cast to integers.
        """
        sink = self._sink
        while True:
            if sink.cancelled:
                raise Cancelled("The utterance was cancelled.")
            if sink.chunks:
                return self._take()
            if sink.error is not None:
                raise sink.error
            if sink.finish_reason is not None:
                raise StopAsyncIteration
            sink.for_caller.clear()
            await sink.for_caller.wait()

    def _take(self) -> AudioChunk:
        chunk = self._sink.chunks.popleft()
        self._sink.taken_samples += chunk.pcm.size
        self._sink.wake()
        if chunk.pcm.dtype != np.int16 and not np.isfinite(chunk.pcm).all():
            self.cancel()
            raise SynthesisError("The engine made audio that is not a number; nothing of it was sent.")
        return chunk


@dataclass(slots=True)
class ListenerClock:
    """All times in seconds on one monotonic clock, whose time is an argument.

    The model: playback starts with the first sample and goes on without a pause until it runs dry; then it
    waits for the next delivery. Gaps are judged against this clock rather than by the time between chunks:
    that distinguishes a stutter from a long chunk.
    """

    plays_until_s: float | None = None
    underruns: int = 0

    def deliver(self, duration_s: float, now_s: float) -> float:
        """Audio arrives. Returns its lateness: for how long playback had run dry (0 for the first)."""
        lateness_s = 0.0
        if self.plays_until_s is None:
            self.plays_until_s = now_s
        elif now_s > self.plays_until_s:
            lateness_s = now_s - self.plays_until_s
            self.underruns += 1
            self.plays_until_s = now_s
        self.plays_until_s += duration_s
        return lateness_s

    def ahead_s(self, now_s: float) -> float:
        """Seconds of delivered audio that were not played yet."""
        return 0.0 if self.plays_until_s is None else max(0.0, self.plays_until_s - now_s)

    def reset(self) -> None:
        """Buffered audio was dropped (a cancel), or playback starts again."""
        self.plays_until_s = None


# The model chooses the language by the text. Clients use the same word.
ANY_LANGUAGE = "Auto"
# icl: cloning with the transcript, closest to the speaker; xvector: from the speaker embedding alone.
CloneMode = Literal["icl", "xvector"]


@dataclass(frozen=True, slots=True)
class VoiceReference:
    """A clip to encode. ``pcm``: float32 [samples], mono, in -1…1, at ``sample_rate_hz``."""

    pcm: npt.NDArray[np.float32] = field(repr=False)
    sample_rate_hz: int
    transcript: str | None = field(repr=False)
    language: str
    mode: CloneMode


@dataclass(slots=True)
class EngineShare:
    """Memory that the engine uses for a voice, besides its prompt. Only the engine writes it."""

    size_bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class VoicePrompt:
    """An encoded voice. ``tensors``, as numpy arrays: they can be stored without torch. They belong to the
    engine that has this ``fingerprint``.

    Utterances and the voice cache hold it; an engine keeps its own copy of the voice for as long as they do.
    """

    fingerprint: str
    tensors: Mapping[str, npt.NDArray[np.generic]] = field(repr=False)
    engine_share: EngineShare = field(default_factory=EngineShare, init=False, repr=False)

    @property
    def size_bytes(self) -> int:
        """All memory that it uses; grows when an engine speaks with it."""
        return sum(tensor.nbytes for tensor in self.tensors.values()) + self.engine_share.size_bytes


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine is and can do; before it is loaded, as far as that does not depend on its model.

    ``languages`` are English names. ``text_streaming``: it speaks while the text is incomplete.
    ``fingerprint`` names what a VoicePrompt depends on (model and revision). ``note`` is one sentence for
    people: what this engine is, and what it cannot do. ``kernels``: the implementation of each family of leaf
    operations, for an engine that has several.
    """

    name: str
    model: str
    fingerprint: str
    sample_rate_hz: int
    languages: tuple[str, ...]
    note: str
    cloning: bool = True
    text_streaming: bool = True
    kernels: Mapping[str, str] = field(default_factory=dict)


# A few words for people about the stage, and progress in 0…1, never falling.
ProgressReport = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """``active``: utterances that are open now. ``reason`` says why it is not ``alive``."""

    alive: bool
    active: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class UtteranceRequest:
    """``voice`` is None for the engine's own voice (the only one of an engine that cannot clone).

    ``language`` is an English name or "Auto". The same ``seed`` gives the same audio.
    """

    utterance_id: str
    language: str = "English"
    voice: VoicePrompt | None = None
    seed: int | None = None


def check_request(facts: EngineFacts, request: UtteranceRequest) -> None:
    """Raises InvalidText and VoiceNotFound as ``SpeechEngine.open`` promises."""
    if request.language not in (*facts.languages, ANY_LANGUAGE):
        raise InvalidText(f"This engine speaks {', '.join(facts.languages)} only.")
    if request.voice is not None and request.voice.fingerprint != facts.fingerprint:
        raise VoiceNotFound("This engine cannot use that voice: it was not encoded by it.")


def check_reference(reference: VoiceReference) -> None:
    """Raises VoiceNotFound if it cannot be cloned."""
    if reference.mode == "icl" and not reference.transcript:
        raise VoiceNotFound("Cloning in mode icl needs the transcript of the clip.")


class SpeechEngine(Protocol):
    """All methods are called on the event loop; none of them blocks it.

    Laws: a stream's audio depends only on its request and its pieces, not on its neighbours or on when the
    pieces came; ``cancel`` works at any moment, is idempotent and frees the engine's resources within one
    iteration; a failing utterance fails no other.
    """

    @property
    def facts(self) -> EngineFacts:
        """Constant from ``start`` on; before, what depends on the model is a guess."""
        ...

    async def start(self, report: ProgressReport) -> None:
        """Load and warm up: returns once one real utterance was synthesized.

        Raises TtsUnavailable when it cannot be loaded.
        """
        ...

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        """Raises VoiceNotFound when the reference cannot be used, or the engine cannot clone."""
        ...

    def open(self, request: UtteranceRequest) -> SpeechStream:
        """Begin an utterance. Raises RateLimited when there is no room, TtsUnavailable when not running.

        Raises InvalidText for a language that is not among ``facts.languages`` (or "Auto"), and VoiceNotFound
        for a voice that was encoded for another engine.
        """
        ...

    def health(self) -> EngineHealth:
        """Cheap; never raises."""
        ...

    async def close(self) -> None:
        """End all utterances (with Cancelled) and free everything. Idempotent."""
        ...
