"""One utterance in the engine: it is in exactly one state, and has one current piece of text.

In: text, frames, sound, the time. Out: chunks into its sink, a snapshot for the scheduler. Does not know: the
model, other utterances, when it runs.

    WaitingForText → Prefilling → Generating → Finishing → WaitingForText, with the next piece
    BufferingText in front of Prefilling, or in the middle of Generating, while the writer is too slow
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from makima_tts.audio import Pcm
from makima_tts.engines.qwen3.scheduler import UtteranceSnapshot
from makima_tts.speech import (
    AudioChunk,
    FinishReason,
    ListenerClock,
    SpeechSink,
    TextPart,
    UtteranceRequest,
)
from makima_tts.text import usual_speech_s

if TYPE_CHECKING:
    from makima_tts.model.language_model import PrefillChunk

# Receives every frame on the engine thread: the utterance's id, and its codes, int64 [Q].
FrameWatcher = Callable[[str, npt.NDArray[np.int64]], None]

# Some texts take longer to say than is usual.
_SLOW_SPEECH = 1.3
# Speech that an unfinished text may still bring: a few sentences.
_OPEN_TEXT_S = 5.0
# Text rows of a piece, as guessed while it is incomplete: the first is a clause, some fifty letters of
# English; those after it are sentences.
_FIRST_PIECE_ROWS = 12
_PIECE_ROWS = 24
# Words differ in length: the writer's speed is not known from two of them.
_LEAST_ROWS = 3
# The model opens with up to half a second of silence. Twice the longest that was seen: a longer one is meant.
MAX_SKIPPED_FRAMES = 12
# About once in three hundred times the model does not find its end and goes on in silence. Two seconds: no
# pause within a sentence is as long.
END_AFTER_FRAMES = 25
NO_SOUND: Pcm = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class SynthesisOptions:
    """How an engine speaks. ``greedy``: always the likeliest code.

    ``text_streams``: text rows go into the frames, one each, rather than all into the prompt.
    ``raw``: only what the reference package does: no silence appended to a reference, no silence skipped, no
    end but the model's own and ``max_frames``. ``max_frames``: of an utterance.
    ``positions``: rows of a prompt and its frames, at most.
    """

    greedy: bool = False
    raw: bool = False
    text_streams: bool = True
    max_frames: int | None = None
    positions: int = 1280


@dataclass(slots=True)
class CurrentPiece:
    """A piece of text. ``is_open``: more of its text may come. ``unwritten``: its text that is not among the
    rows yet. ``usual_s``: how long such a text usually takes to say.

    ``prompt_rows``: 0 before the prompt is written. ``text_rows``: those that go into frames after the first.
    ``budget_frames``: the piece is truncated there. Of its ``frames``, ``pending`` are not decoded yet, and
    ``decoding`` are being decoded, so they are not delivered.
    """

    index: int
    text: str = field(default="", repr=False)
    is_open: bool = True
    unwritten: list[str] = field(default_factory=list, repr=False)
    usual_s: float = 0.0
    prompt_rows: int = 0
    text_rows: int = 0
    budget_frames: int = 0
    frames: int = 0
    pending: int = 0
    decoding: int = 0

    @property
    def starved(self) -> bool:
        """Its next frame needs a text row that has not come, or is not written."""
        return (self.is_open or bool(self.unwritten)) and self.frames >= self.text_rows

    @property
    def next_position(self) -> int:
        """Of the talker: a prompt's first frame takes no step."""
        return self.prompt_rows + max(0, self.frames - 1)


@dataclass(slots=True)
class WaitingForText:
    """Nothing has come of its current piece."""


@dataclass(slots=True)
class Prefilling:
    """``chunks``: of the prompt, those that are still to be prefilled; none before it is written.

    ``uncached_rows``: so many rows at its beginning are not in the voice's prefix cache yet.
    """

    chunks: "deque[PrefillChunk]" = field(default_factory=deque)
    uncached_rows: int = 0


@dataclass(slots=True)
class Generating:
    """Its prompt is prefilled, its end not found."""


@dataclass(slots=True)
class BufferingText:
    """Text comes, but not enough to go on with ``resumes``: one long wait is better than one after each word.

    While a text is incomplete every frame needs a text row, and lasts 80 ms. A writer who is faster than that
    is followed as soon as the speed is known. Of a slower one, so many rows must be there beforehand as will
    be missing by the end of the piece, whose length is guessed.

    ``rows``: text rows that have come, the ``first_rows`` of them at ``since_s``.
    """

    resumes: Prefilling | Generating
    piece_index: int
    rows: int = 0
    first_rows: int = 0
    since_s: float = 0.0

    def add(self, rows: int, now_s: float) -> None:
        if not self.rows:
            self.first_rows, self.since_s = rows, now_s
        self.rows += rows

    def suffices(self, now_s: float, *, ahead_s: float, frame_s: float) -> bool:
        """``ahead_s``: sound that the listener has not played yet."""
        took_s = now_s - self.since_s
        rows_per_frame = (self.rows - self.first_rows) * frame_s / took_s if took_s > 0 else 0.0
        guessed_rows = _PIECE_ROWS if self.piece_index else _FIRST_PIECE_ROWS
        return self.rows + ahead_s / frame_s >= max(_LEAST_ROWS, guessed_rows * (1 - rows_per_frame))


@dataclass(slots=True)
class Finishing:
    """The last frame was generated. What is left is to decode it, and to take the rest of an open text."""


State = WaitingForText | BufferingText | Prefilling | Generating | Finishing


@dataclass(slots=True)
class SilenceGuard:
    """One utterance's silences. ``begun``: sound has been passed on. ``silent_frames``: in a row, since the
    text was used up. What counts as loud is decided in model/codec_ops.py."""

    begun: bool = False
    skipped: int = 0
    silent_frames: int = 0

    def begin_piece(self) -> None:
        self.silent_frames = 0

    def pass_on(self, pcm: Pcm, loud: npt.NDArray[np.bool_], *, after_text: int) -> Pcm:
        """The samples without leading silence, [samples].

        ``loud``: bool [frames]. ``after_text``: so many of them, the last ones, were generated when the text
        was used up.
        """
        frames = loud.size
        skipped = 0 if self.begun else self._leading(loud)
        self.skipped += skipped
        self.begun = self.begun or skipped < frames
        for frame_is_loud in loud[frames - after_text :]:
            self.silent_frames = 0 if frame_is_loud else self.silent_frames + 1
        return pcm[skipped * (pcm.size // frames) :]

    def _leading(self, loud: npt.NDArray[np.bool_]) -> int:
        silent = int(loud.argmax()) if loud.any() else loud.size
        return min(silent, MAX_SKIPPED_FRAMES - self.skipped)

    @property
    def lost(self) -> bool:
        """The model has lost its way: the text is used up, and for long there was nothing but silence."""
        return self.silent_frames >= END_AFTER_FRAMES


@dataclass(slots=True, eq=False)
class EngineUtterance:
    """``streams_text``: it can speak a piece whose text is incomplete. ``chunk_frames``: frames of its next
    chunk. ``frames``: of all its pieces. ``waited_for_text``: the next chunk could not come sooner.

    ``arrived_s``: when it came; ``since_s``: when its wait began for the first sound that the listener has
    not played.
    """

    request: UtteranceRequest
    sink: SpeechSink
    slot: int
    since_s: float
    max_frames: int | None = None
    streams_text: bool = False
    state: State = field(default_factory=WaitingForText)
    piece: CurrentPiece = field(default_factory=lambda: CurrentPiece(0))
    clock: ListenerClock = field(default_factory=ListenerClock)
    silence: SilenceGuard = field(default_factory=SilenceGuard)
    chunk_frames: int = 1
    frames: int = 0
    synthesis_s: float = 0.0
    waited_for_text: bool = False
    finish_reason: FinishReason = "stop"
    arrived_s: float = field(init=False)
    _untaken_s_per_char: float = 0.0
    _taken_chars: int = 0

    def __post_init__(self) -> None:
        self.arrived_s = self.since_s

    def take_text(self, now_s: float) -> bool:
        """False once everything was spoken and no text will follow."""
        # Asked before the text is looked at: nothing is fed after it was closed.
        closed = self.sink.text_closed
        if not isinstance(self.state, WaitingForText):
            self._take_more()
        if isinstance(self.state, Finishing) and not self.piece.decoding:
            self.deliver(NO_SOUND, 0.0, now_s)  # the model found the end before the text was complete
        if not isinstance(self.state, WaitingForText):
            return True
        return self.frames != self.max_frames and (self._begin_piece(now_s) or not closed)

    def _begin_piece(self, now_s: float) -> bool:
        part = self._first_part()
        if part is None:
            return False
        self._add(part)
        self._take_more()
        self.state = Prefilling()
        if self.piece.is_open:
            self.state = BufferingText(self.state, self.piece.index)
        elif self.clock.ahead_s(now_s) == 0:
            self._restart_playback(now_s)
        self.silence.begin_piece()
        return True

    def _first_part(self) -> TextPart | None:
        if self.streams_text:
            return self.sink.take_part()
        text = self.sink.take_piece()
        return None if text is None else TextPart(text)

    def _take_more(self) -> None:
        while self.piece.is_open and (part := self.sink.take_part()) is not None:
            self._add(part)

    def _add(self, part: TextPart) -> None:
        piece = self.piece
        piece.text += part.text
        piece.unwritten.append(part.text)
        piece.is_open = not part.ends_piece
        piece.usual_s += usual_speech_s(part.text, self.request.language)
        self._taken_chars += len(part.text)
        self._untaken_s_per_char = piece.usual_s / len(piece.text) if piece.text else 0.0

    @property
    def has_unwritten_text(self) -> bool:
        return bool(self.piece.unwritten) and not isinstance(self.state, Finishing)

    @property
    def chunks(self) -> "deque[PrefillChunk]":
        """Of its prompt, those that are still to be prefilled."""
        state = self.state.resumes if isinstance(self.state, BufferingText) else self.state
        return state.chunks if isinstance(state, Prefilling) else deque()

    def begin_prefill(self, prefilling: Prefilling) -> None:
        """The prompt is written."""
        if isinstance(self.state, BufferingText):
            self.state.resumes = prefilling
        else:
            self.state = prefilling

    def resume(self, rows: int, now_s: float, frame_s: float) -> None:
        """So many text rows were written: go on, if they suffice."""
        piece, ahead_s = self.piece, self.clock.ahead_s(now_s)
        ran_dry = ahead_s == 0 and not piece.decoding
        if isinstance(self.state, Generating) and ran_dry and 0 < piece.frames >= piece.text_rows - rows:
            self.state = BufferingText(self.state, piece.index)
        if not isinstance(self.state, BufferingText):
            return
        self.state.add(rows, now_s)
        if piece.is_open and not self.state.suffices(now_s, ahead_s=ahead_s, frame_s=frame_s):
            return
        self.state = self.state.resumes
        if ran_dry:
            self.waited_for_text = True
            self._restart_playback(now_s)

    def _restart_playback(self, now_s: float) -> None:
        """The listener ran dry for want of text: its next sound is a first sound again."""
        self.clock.reset()
        self.since_s = now_s
        self.chunk_frames = 1

    def deliver(self, pcm: Pcm, duration_s: float, now_s: float) -> None:
        """Hand sound over; and that the piece is finished, once its sound and its text are."""
        finished = isinstance(self.state, Finishing) and not self.piece.is_open
        if pcm.size or finished:
            chunk = AudioChunk(pcm, self.piece.index, finished, self.synthesis_s, self.waited_for_text)
            self.sink.put(chunk)
            self.synthesis_s, self.waited_for_text = 0.0, False
        if pcm.size:
            self.clock.deliver(duration_s, now_s)
        if finished:
            self.end_piece()

    def end_piece(self) -> None:
        """Frames of it that are still generated or decoded are dropped: they belong to no current piece."""
        self.piece = CurrentPiece(self.piece.index + 1)
        self.state = WaitingForText()

    def add_frame(self, *, is_end: bool) -> None:
        """The model has generated one, or that the piece ends before it."""
        if is_end:
            self.state = Finishing()
        elif isinstance(self.state, Generating):
            self.piece.pending += 1
            self.piece.frames += 1
            self.frames += 1
            if self.piece.frames >= self.piece.budget_frames:
                self.truncate()

    def truncate(self) -> None:
        """End the piece before the model has found its end."""
        self.state = Finishing()
        self.finish_reason = "length"

    def start_decoding(self) -> CurrentPiece:
        """All pending frames. Returns the piece that they belong to."""
        self.piece.pending, self.piece.decoding = 0, self.piece.pending
        return self.piece

    def snapshot(self, frame_s: float) -> UtteranceSnapshot:
        """For the scheduler."""
        plays_until_s = self.clock.plays_until_s
        can_run = isinstance(self.state, Generating) or (
            isinstance(self.state, Prefilling) and bool(self.state.chunks)
        )
        return UtteranceSnapshot(
            slot=self.slot,
            runnable=can_run and not self.piece.starved and self.sink.has_credit,
            playback_started=plays_until_s is not None,
            underrun_at_s=(
                self.since_s if plays_until_s is None else plays_until_s + self.piece.decoding * frame_s
            ),
            prefill_rows=tuple(len(chunk.rows) for chunk in self.chunks),
            pending=self.piece.pending,
            chunk_frames=self.chunk_frames,
        )

    def remaining_s(self, frame_s: float) -> float:
        """Sound that is still to be generated, as far as can be guessed."""
        untaken_s = (self.sink.fed_chars - self._taken_chars) * self._untaken_s_per_char * _SLOW_SPEECH
        if not self.sink.text_closed:
            untaken_s += _OPEN_TEXT_S
        if isinstance(self.state, WaitingForText):
            return untaken_s
        return max(frame_s, _SLOW_SPEECH * self.piece.usual_s - self.piece.frames * frame_s) + untaken_s
