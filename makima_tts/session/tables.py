"""The two tables that are the conversation: every state, every input, what is done, where it may lead.

In: nothing. Out: the tables, read by the machines, by the diagram in docs/protocol.md and by a test that
walks every cell. Does not know: how a cell does its work.

A cell names the method that answers and the states it may lead to (its own state is always allowed). An
absent cell answers INVALID_MESSAGE when the input came from the client, and nothing otherwise: a report
about an utterance that is over is late, not wrong.
"""

from enum import StrEnum
from typing import NamedTuple

from makima_tts.protocol import Cancel, Flush, Ping, Speak, Start, Stop
from makima_tts.session import inputs


class SessionState(StrEnum):
    """READY is a page session's, STARTED one's that sent ``start``; DRAINING lets what is pending end."""

    LOADING = "loading"
    HELD = "held"
    READY = "ready"
    STARTING = "starting"
    STARTED = "started"
    SPEAKING = "speaking"
    DRAINING = "draining"
    STOPPED = "stopped"


class UtteranceState(StrEnum):
    """OPEN and CLOSED wait in the queue; text may still be appended to an open one."""

    OPEN = "open"
    CLOSED = "closed"
    SPEAKING_OPEN = "speaking open"
    SPEAKING_CLOSED = "speaking closed"
    ENDED = "ended"


class Cell(NamedTuple):
    method: str
    leads_to: tuple[StrEnum, ...] = ()


S, U = SessionState, UtteranceState
SessionRow = dict[type, Cell]

_RESTING = (S.READY, S.STARTED)


def _row(*once_nothing_is_pending: SessionState) -> SessionRow:
    """What every state but STOPPED answers; the argument: where it goes when the last utterance ends."""
    return {
        Flush: Cell("flush"),
        Cancel: Cell("cancel", once_nothing_is_pending),
        Ping: Cell("pong"),
        Stop: Cell("stop", (S.STOPPED,)),
        inputs.Malformed: Cell("complain", (S.STOPPED,)),
        inputs.Interrupt: Cell("interrupt", once_nothing_is_pending),
        inputs.Tick: Cell("tick", (S.STOPPED, *once_nothing_is_pending)),
        inputs.Drain: Cell("drain", (S.STOPPED,)),
        inputs.Disconnected: Cell("disconnect", (S.STOPPED,)),
        inputs.EngineFailed: Cell("fail_engine", (S.STOPPED,)),
    }


def _loading_row() -> SessionRow:
    """Answers are held back until `ready`, and too many of them end the session."""
    row = _row() | {Speak: Cell("speak")}
    answered = {event: Cell(cell.method, (*cell.leads_to, S.STOPPED)) for event, cell in row.items()}
    return answered | {inputs.EngineLoading: Cell("show_loading")}


def _resting_row() -> SessionRow:
    return _row() | {Start: Cell("start", (S.STARTING,)), Speak: Cell("speak", (S.SPEAKING,))}


def _speaking_row(*once_nothing_is_pending: SessionState) -> SessionRow:
    return _row(*once_nothing_is_pending) | {
        inputs.AudioReady: Cell("report"),
        inputs.SpeechEnded: Cell("report", once_nothing_is_pending),
        inputs.SpeechFailed: Cell("report", once_nothing_is_pending),
    }


SESSION_TABLE: dict[SessionState, SessionRow] = {
    S.LOADING: _loading_row()
    | {
        Start: Cell("hold", (S.HELD, S.STOPPED)),
        inputs.EngineReady: Cell("get_ready", (S.READY, S.SPEAKING, S.DRAINING)),
    },
    S.HELD: _loading_row()
    | {
        Start: Cell("hold", (S.STOPPED,)),
        inputs.EngineReady: Cell("get_ready_and_start", (S.STARTING,)),
    },
    S.READY: _resting_row(),
    S.STARTING: _row(S.STOPPED)
    | {
        Start: Cell("start", (S.STOPPED,)),
        Speak: Cell("speak", (S.STOPPED,)),
        inputs.VoiceLoaded: Cell("get_started", (S.STARTED, S.SPEAKING, S.DRAINING)),
    },
    S.STARTED: _resting_row(),
    S.SPEAKING: _speaking_row(*_RESTING)
    | {Speak: Cell("speak", _RESTING), inputs.Drain: Cell("drain", (S.DRAINING,))},
    S.DRAINING: _speaking_row(S.STOPPED) | {Start: Cell("start"), Speak: Cell("speak", (S.STOPPED,))},
    S.STOPPED: {},
}


class Append(NamedTuple):
    """More text of an open utterance; ``final`` closes it."""

    text: str
    final: bool


class FlushText(NamedTuple):
    """Speak what is held, whether or not it is a whole sentence."""


class Stalled(NamedTuple):
    """The writer fell silent: the text is closed for them."""


class Begin(NamedTuple):
    """Its turn has come."""


class Silence(NamedTuple):
    """Cancelled; ``played_ms`` as the client said."""

    played_ms: int | None


UtteranceInput = (
    Append
    | FlushText
    | Stalled
    | Begin
    | Silence
    | inputs.AudioReady
    | inputs.SpeechEnded
    | inputs.SpeechFailed
)

_ENDING: dict[type, Cell] = {
    Silence: Cell("silence", (U.ENDED,)),
    inputs.SpeechFailed: Cell("fail", (U.ENDED,)),
    FlushText: Cell("ignore"),
}
_SPEAKING: dict[type, Cell] = _ENDING | {
    inputs.AudioReady: Cell("sound"),
    inputs.SpeechEnded: Cell("complete", (U.ENDED,)),
}

UTTERANCE_TABLE: dict[UtteranceState, dict[type, Cell]] = {
    U.OPEN: _ENDING
    | {
        Append: Cell("append", (U.CLOSED, U.ENDED)),
        FlushText: Cell("flush"),
        Stalled: Cell("close", (U.CLOSED, U.ENDED)),
        Begin: Cell("begin", (U.SPEAKING_OPEN,)),
    },
    U.CLOSED: _ENDING | {Begin: Cell("begin", (U.SPEAKING_CLOSED,))},
    U.SPEAKING_OPEN: _SPEAKING
    | {
        Append: Cell("append", (U.SPEAKING_CLOSED, U.ENDED)),
        FlushText: Cell("flush"),
        Stalled: Cell("close", (U.SPEAKING_CLOSED, U.ENDED)),
    },
    U.SPEAKING_CLOSED: _SPEAKING,
    U.ENDED: {},
}
