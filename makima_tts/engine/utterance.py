"""One utterance's life in the engine.

In: its request, pieces. Out: where it stands. Does not know: the model, other utterances, when it runs.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from makima_tts.engine.silence import SilenceGuard
from makima_tts.engine.slots import Lease
from makima_tts.speech import FinishReason, SpeechSink, UtteranceRequest


class Phase(Enum):
    """Where an utterance stands."""

    WAITING = auto()  # for a piece
    TO_READ = auto()  # a piece is there, and not yet read
    SPEAKING = auto()


@dataclass(slots=True)
class PieceState:
    """The piece that is being spoken. ``trailing``: text rows that go into frames after the first.

    ``fresh``: its next frame is its first. ``position``: where the talker's next row goes.
    """

    text: str = field(repr=False)
    index: int
    budget_frames: int = 0
    trailing: int = 0
    position: int = 0
    frames: int = 0
    fresh: bool = True
    ended: bool = False


@dataclass(slots=True, eq=False)
class EngineUtterance:
    """``pending``: frames that were made and are not sound yet. ``chunk_frames``: how many make a chunk.

    ``frames``: of all its pieces. ``cut``: a guard ended a piece. ``over``: whatever text is left, no piece
    will follow.
    """

    request: UtteranceRequest
    sink: SpeechSink
    lease: Lease
    silence: SilenceGuard = field(default_factory=SilenceGuard)
    phase: Phase = Phase.WAITING
    piece: PieceState | None = None
    pieces: int = 0
    pending: int = 0
    chunk_frames: int = 1
    synthesis_s: float = 0.0
    frames: int = 0
    cut: bool = False
    over: bool = False

    def advance(self) -> bool:
        """Take up the next piece, if it is there; False once all was spoken and nothing will follow."""
        # Before the pieces are looked at: what is fed after it was closed is none.
        closed = self.sink.text_closed
        if self.phase is not Phase.WAITING:
            return True
        return not self.over and (self._take_piece() or not closed)

    def end_piece(self) -> None:
        self.piece = None
        self.phase = Phase.WAITING

    def _take_piece(self) -> bool:
        text = self.sink.take_piece()
        if text is None:
            return False
        self.piece = PieceState(text, self.pieces)
        self.pieces += 1
        self.phase = Phase.TO_READ
        self.silence.begin_piece()
        return True

    @property
    def finish_reason(self) -> FinishReason:
        return "length" if self.cut else "stop"
