"""One utterance's life in the engine.

In: its request, pieces, the time. Out: where it stands. Does not know: the model, other utterances, when it
runs.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

import numpy as np

from makima_tts.audio import Pcm
from makima_tts.engines.qwen3.growth import Growth
from makima_tts.engines.qwen3.scheduler import Standing
from makima_tts.engines.qwen3.silence import SilenceGuard
from makima_tts.engines.qwen3.slots import Lease
from makima_tts.speech import (
    AudioChunk,
    FinishReason,
    ListenerClock,
    Part,
    SpeechSink,
    UtteranceRequest,
)
from makima_tts.text import usual_speech_s

if TYPE_CHECKING:
    from makima_tts.model.frames import PrefillChunk

# Some speak more slowly than is usual.
_SLOWLY = 1.3
# What may come of a text that is still being written: a few sentences.
_OPEN_TEXT_S = 5.0
NOTHING: Pcm = np.zeros(0, np.float32)


class Phase(Enum):
    """Where an utterance stands."""

    WAITING = auto()  # for a piece
    TO_READ = auto()  # a piece is there, and not yet read to its end
    SPEAKING = auto()


@dataclass(slots=True)
class PieceState:
    """The piece that is being spoken. ``trailing``: text rows that go into frames after the first.

    ``is_open``: its text may grow. ``unwritten``: what came of it and is not among the rows yet; None if
    nothing did. ``growth``: how much there is, while that does not suffice to speak on. ``usual_s``: how long
    such a text usually takes to say.

    ``unread``: parts of its prompt; None before it was written. ``unknown_rows``: so many at its beginning
    are not yet known of this voice. ``fresh``: its next frame is its first. ``position``: where the talker's
    next row goes. ``room_frames``: as many as there is room for.
    """

    index: int
    text: str = field(default="", repr=False)
    unwritten: str | None = field(default=None, repr=False)
    is_open: bool = True
    growth: Growth | None = None
    usual_s: float = 0.0
    unread: "deque[PrefillChunk] | None" = None
    unknown_rows: int = 0
    room_frames: int = 0
    budget_frames: int = 0
    trailing: int = 0
    position: int = 0
    frames: int = 0
    fresh: bool = True
    ended: bool = False

    @property
    def rows(self) -> int:
        """Of text, in all: one more than trail."""
        return 0 if self.unread is None else self.trailing + 1

    @property
    def is_used_up(self) -> bool:
        """Its next frame wants text that has not come, or is not written."""
        return (self.is_open or self.unwritten is not None) and self.frames >= self.trailing


@dataclass(slots=True, eq=False)
class EngineUtterance:
    """``pending``: frames that were made and are not sound yet. ``chunk_frames``: how many make a chunk.
    ``decoding``: frames that are being decoded, and so not handed over.

    ``grows``: it can speak a piece that is not there to its end. ``waited_for_text``: what comes next could
    not come sooner.

    ``frames``: of all its pieces. ``cut``: a guard ended a piece. ``over``: whatever text is left, no piece
    will follow. ``arrived_s``: when it came; ``since_s``: when it began to wait for the first sound that its
    listener has not heard.
    """

    request: UtteranceRequest
    sink: SpeechSink
    lease: Lease
    since_s: float
    clock: ListenerClock = field(default_factory=ListenerClock)
    silence: SilenceGuard = field(default_factory=SilenceGuard)
    grows: bool = False
    phase: Phase = Phase.WAITING
    piece: PieceState | None = None
    pieces: int = 0
    pending: int = 0
    chunk_frames: int = 1
    decoding: int = 0
    synthesis_s: float = 0.0
    frames: int = 0
    cut: bool = False
    over: bool = False
    waited_for_text: bool = False
    arrived_s: float = field(init=False)
    _untaken_s_per_char: float = 0.0
    _taken_chars: int = 0

    def __post_init__(self) -> None:
        self.arrived_s = self.since_s

    def advance(self, now_s: float) -> bool:
        """Take up what text has come; False once all was spoken and nothing will follow."""
        # Before the text is looked at: what is fed after it was closed is none.
        closed = self.sink.text_closed
        if self.piece is not None:
            self._take_more_of(self.piece)
            self._end_if_over(self.piece, now_s)
        if self.phase is not Phase.WAITING:
            return True
        return not self.over and (self._take_piece(now_s) or not closed)

    def end_piece(self) -> None:
        """What was made of it and is not sound yet never will be."""
        self.piece = None
        self.phase = Phase.WAITING
        self.pending = self.decoding = 0

    def _take_piece(self, now_s: float) -> bool:
        part = self._next_part()
        if part is None:
            return False
        self.piece = piece = PieceState(self.pieces)
        self.pieces += 1
        self._add(part, piece)
        self._take_more_of(piece)
        if piece.is_open:
            piece.growth = Growth(piece.index)
        elif self.clock.ahead_s(now_s) == 0:
            self._nobody_is_late(now_s)
        self.phase = Phase.TO_READ
        self.silence.begin_piece()
        return True

    def _next_part(self) -> Part | None:
        if self.grows:
            return self.sink.take_part()
        piece = self.sink.take_piece()
        return None if piece is None else Part(piece)

    def _take_more_of(self, piece: PieceState) -> None:
        while piece.is_open and (part := self.sink.take_part()) is not None:
            self._add(part, piece)

    def _end_if_over(self, piece: PieceState, now_s: float) -> None:
        if piece.ended and not self.decoding:  # the model found its end before the writer did
            self.deliver(piece, NOTHING, 0.0, now_s)

    def _add(self, part: Part, piece: PieceState) -> None:
        piece.text += part.text
        piece.unwritten = (piece.unwritten or "") + part.text
        piece.is_open = not part.ends_piece
        piece.usual_s += usual_speech_s(part.text, self.request.language)
        self._taken_chars += len(part.text)
        self._untaken_s_per_char = piece.usual_s / len(piece.text) if piece.text else 0.0

    @property
    def is_to_be_written(self) -> bool:
        """Text came that is not among the rows."""
        return self.piece is not None and self.piece.unwritten is not None and not self.piece.ended

    def speak_on(self, piece: PieceState, more: int, now_s: float, frame_s: float) -> None:
        """``more`` of its text rows were written: speak, if what there is suffices."""
        ahead_s = self.clock.ahead_s(now_s)
        dry = ahead_s == 0 and not self.decoding
        if dry and not piece.fresh and piece.frames >= piece.trailing - more:
            piece.growth = Growth(piece.index)
        if piece.growth is None:
            return
        piece.growth.add(more, now_s)
        if piece.is_open and not piece.growth.suffices(now_s, ahead_s=ahead_s, frame_s=frame_s):
            return
        piece.growth = None
        if dry:
            self.waited_for_text = True
            self._nobody_is_late(now_s)

    def _nobody_is_late(self, now_s: float) -> None:
        """The listener has run dry for want of text: what comes next is a first sound again."""
        self.clock.reset()
        self.since_s = now_s
        self.chunk_frames = 1

    def deliver(self, piece: PieceState, pcm: Pcm, duration_s: float, now_s: float) -> None:
        """Hand sound over, and that the piece is over once both its sound and its text are."""
        over = piece.ended and not piece.is_open
        if pcm.size or over:
            chunk = AudioChunk(pcm, piece.index, over, self.synthesis_s, self.waited_for_text)
            self.sink.put(chunk)
            self.synthesis_s, self.waited_for_text = 0.0, False
        if pcm.size:
            self.clock.deliver(duration_s, now_s)
        if over:
            self.end_piece()

    def standing(self, frame_s: float) -> Standing:
        """For whoever decides what comes next."""
        piece, dry_s = self.piece, self.clock.plays_until_s
        return Standing(
            slot=self.lease.slot,
            able=self._has_something_to_do and self.sink.has_credit,
            heard=dry_s is not None,
            due_s=self.since_s if dry_s is None else dry_s + self.decoding * frame_s,
            unread=tuple(len(part.rows) for part in piece.unread or ()) if piece is not None else (),
            pending=self.pending,
            chunk_frames=self.chunk_frames,
        )

    @property
    def _has_something_to_do(self) -> bool:
        piece = self.piece
        if piece is None or piece.unread is None or piece.ended:
            return False
        return piece.growth is None and not piece.is_used_up

    def unsaid_s(self, frame_s: float) -> float:
        """Sound that is still to be made, as far as can be guessed."""
        untaken_s = (self.sink.fed_chars - self._taken_chars) * self._untaken_s_per_char * _SLOWLY
        if not self.sink.text_closed:
            untaken_s += _OPEN_TEXT_S
        if self.piece is None:
            return untaken_s
        return max(frame_s, _SLOWLY * self.piece.usual_s - self.piece.frames * frame_s) + untaken_s

    @property
    def finish_reason(self) -> FinishReason:
        return "length" if self.cut else "stop"
