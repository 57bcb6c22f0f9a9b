"""One utterance's life in the engine.

In: its request, pieces, the time. Out: where it stands. Does not know: the model, other utterances, when it
runs.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from makima_tts.engine.scheduler import Standing
from makima_tts.engine.silence import SilenceGuard
from makima_tts.engine.slots import Lease
from makima_tts.speech import FinishReason, ListenerClock, SpeechSink, UtteranceRequest
from makima_tts.text import usual_speech_s

if TYPE_CHECKING:
    from makima_tts.model.frames import PromptPart

# Some speak more slowly than is usual.
_SLOWLY = 1.3
# What may come of a text that is still being written: a few sentences.
_OPEN_TEXT_S = 5.0


class Phase(Enum):
    """Where an utterance stands."""

    WAITING = auto()  # for a piece
    TO_READ = auto()  # a piece is there, and not yet read to its end
    SPEAKING = auto()


@dataclass(slots=True)
class PieceState:
    """The piece that is being spoken. ``trailing``: text rows that go into frames after the first.

    ``unread``: parts of its prompt; None before it was written. ``unknown_rows``: so many at its beginning
    are not yet known of this voice. ``fresh``: its next frame is its first. ``position``: where the talker's
    next row goes. ``usual_s``: how long such a text usually takes to say.
    """

    text: str = field(repr=False)
    index: int
    usual_s: float
    unread: "deque[PromptPart] | None" = None
    unknown_rows: int = 0
    budget_frames: int = 0
    trailing: int = 0
    position: int = 0
    frames: int = 0
    fresh: bool = True
    ended: bool = False


@dataclass(slots=True, eq=False)
class EngineUtterance:
    """``pending``: frames that were made and are not sound yet. ``chunk_frames``: how many make a chunk.
    ``decoding``: frames that are being decoded, and so not handed over.

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
    arrived_s: float = field(init=False)
    _untaken_s_per_char: float = 0.0
    _taken_chars: int = 0

    def __post_init__(self) -> None:
        self.arrived_s = self.since_s

    def advance(self, now_s: float) -> bool:
        """Take up the next piece, if it is there; False once all was spoken and nothing will follow."""
        # Before the pieces are looked at: what is fed after it was closed is none.
        closed = self.sink.text_closed
        if self.phase is not Phase.WAITING:
            return True
        return not self.over and (self._take_piece(now_s) or not closed)

    def end_piece(self) -> None:
        """What was made of it and is not sound yet never will be."""
        self.piece = None
        self.phase = Phase.WAITING
        self.pending = self.decoding = 0

    def _take_piece(self, now_s: float) -> bool:
        text = self.sink.take_piece()
        if text is None:
            return False
        if self.clock.ahead_s(now_s) == 0:  # the listener has run dry for want of text: nobody is late
            self.clock.reset()
            self.since_s = now_s
        self.piece = PieceState(text, self.pieces, usual_speech_s(text, self.request.language))
        self.pieces += 1
        self._taken_chars += len(text)
        self._untaken_s_per_char = self.piece.usual_s / len(text) if text else 0.0
        self.phase = Phase.TO_READ
        self.silence.begin_piece()
        return True

    @property
    def is_to_be_written(self) -> bool:
        """There is a piece without a prompt."""
        return self.piece is not None and self.piece.unread is None

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
        return self.piece is not None and self.piece.unread is not None and not self.piece.ended

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
