"""Both state tables: every cell is asked, every declared edge is taken, and no other."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from makima_tts.errors import SynthesisError
from makima_tts.protocol import Cancel, ClientMessage, Flush, Limits, Ping, Speak, Start, Stop
from makima_tts.session.inputs import (
    AudioReady,
    Disconnected,
    Drain,
    EngineFailed,
    EngineLoading,
    Interrupt,
    Malformed,
    SessionInput,
    SpeechEnded,
    SpeechFailed,
    Tick,
    VoiceLoaded,
)
from makima_tts.session.machine import SESSION_TABLE, Session, SessionState
from makima_tts.session.tables import Cell
from makima_tts.session.utterance import UTTERANCE_TABLE, Utterance, UtteranceState
from tests.session.talk import READY, Talk, errors

CLIENT: list[ClientMessage] = [
    Start(),
    Speak(text="Hello."),
    Flush(utterance_id="u1"),
    Cancel(),
    Stop(),
    Ping(),
]
OTHERS: list[SessionInput] = [
    Malformed("no"),
    EngineLoading("weights", 0.5),
    READY,
    EngineFailed("broken"),
    VoiceLoaded("makima", None),
    AudioReady("u1", b"\0\0", 1, 0.04, 0, False, 0.0),
    SpeechEnded("u1", "stop"),
    SpeechFailed("u1", SynthesisError("no")),
    Tick(),
    Drain(60_000),
    Interrupt(),
    Disconnected(),
]


def in_state(state: SessionState) -> Talk:
    """A session that ordinary inputs brought into this state."""
    talk = Talk()
    ways: dict[SessionState, list[SessionInput]] = {
        SessionState.LOADING: [],
        SessionState.START_DEFERRED: [Start()],
        SessionState.READY: [READY],
        SessionState.STARTING: [READY, Start()],
        SessionState.STARTED: [READY, Start(), VoiceLoaded("makima", None)],
        SessionState.SPEAKING: [READY, Speak(text="Hello there.")],
        SessionState.DRAINING: [READY, Speak(text="Hello there."), Drain(60_000)],
        SessionState.STOPPED: [READY, Stop()],
    }
    talk.send(*ways[state])
    assert talk.session.state is state
    return talk


@pytest.mark.parametrize("state", SessionState)
@pytest.mark.parametrize("event", [*CLIENT, *OTHERS], ids=lambda event: type(event).__name__)
def test_every_state_answers_every_input_as_its_cell_says(state: SessionState, event: SessionInput) -> None:
    talk = in_state(state)
    cell = SESSION_TABLE[state].get(type(event))
    effects = talk.send(event)
    if cell is not None:
        assert talk.session.state in (state, *cell.leads_to)
    else:
        assert effects == []
        assert talk.session.state is state


@pytest.mark.parametrize("state", [each for each in SessionState if each is not SessionState.STOPPED])
@pytest.mark.parametrize("event", CLIENT, ids=lambda event: type(event).__name__)
def test_every_client_message_has_a_cell_until_the_session_stopped(
    state: SessionState, event: ClientMessage
) -> None:
    assert type(event) in SESSION_TABLE[state]


def test_start_is_out_of_place_while_an_utterance_speaks() -> None:
    talk = in_state(SessionState.SPEAKING)
    assert errors(talk.send(Start())) == ["INVALID_MESSAGE"]
    assert talk.session.state is SessionState.SPEAKING


def test_a_stopped_session_ignores_every_input() -> None:
    talk = in_state(SessionState.STOPPED)
    assert talk.send(*CLIENT, *OTHERS) == []


class Edge(NamedTuple):
    """A cell, and the state that follows; without one, the cell alone."""

    state: SessionState | UtteranceState
    event: type
    following: SessionState | UtteranceState | None = None


def declared(table: Mapping[Any, Mapping[type, Cell[Any, Any]]]) -> set[Edge]:
    cells = [(state, event, cell) for state, row in table.items() for event, cell in row.items()]
    edges = {Edge(state, event, following) for state, event, cell in cells for following in cell.leads_to}
    return edges | {Edge(state, event) for state, event, _ in cells}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[Edge]:
    """The cells that were asked, and the edges that were taken, of both tables."""
    found: set[Edge] = set()

    def record(cell: Cell[Any, Any], state: Any, following: Any) -> Any:
        found.add(Edge(state, asked[-1], following))
        return check(cell, state, following)

    check, asked = Cell.check, list[type]()
    for machine in (Session, Utterance):

        def receive(self: Any, event: Any, now_ms: int, original: Any = machine.receive) -> Any:
            asked.append(type(event))
            effects = original(self, event, now_ms)
            asked.pop()
            return effects

        monkeypatch.setattr(machine, "receive", receive)
    monkeypatch.setattr(Cell, "check", record)
    return found


OPEN = Speak(text="This sentence is whole. And this", utterance_id="open", final=False)
WHOLE = Speak(text="This sentence is whole.", utterance_id="whole")
CLOSED = Speak(text="This sentence is whole.", utterance_id="closed")
SILENT = Speak(text="...", utterance_id="open", final=False)
LIMITS = Limits(max_invalid_messages=2)


def audio_of(utterance_id: str) -> AudioReady:
    return AudioReady(utterance_id, b"\0\0", 1, 0.04, 0, True, 0.0)


COMPLETE: list[SessionInput] = [READY, WHOLE, audio_of("whole"), SpeechEnded("whole", "stop")]
STAGES: list[list[SessionInput]] = [
    [],
    [Start()],
    COMPLETE,
    [*COMPLETE, Start()],
    [*COMPLETE, Start(), VoiceLoaded("makima", None)],
]
TEXTS: list[list[SessionInput]] = [[], [OPEN], [SILENT], [CLOSED], [OPEN, audio_of("open")]]
SITUATIONS: list[list[SessionInput]] = [
    [],
    [Malformed("no")],
    [Ping(), Ping(), Ping()],
    [Drain(10**8)],
    [Malformed("no"), Drain(10**8)],
]
LAST: list[tuple[int, SessionInput]] = [
    *((0, event) for event in (*CLIENT, *OTHERS, WHOLE, audio_of("open"), Flush(utterance_id="open"))),
    *((0, SpeechEnded(name, "stop")) for name in ("open", "closed")),
    *((0, SpeechFailed(name, SynthesisError("no"))) for name in ("open", "closed")),
    *((0, Speak(text=text, utterance_id="open")) for text in ("", "x" * 1001)),
    *((ms, Tick()) for ms in (31_000, 3_600_000)),
]


def conversations() -> Iterator[tuple[Talk, SessionInput]]:
    """A session in each combination of situations, and each input that may come then."""
    for stage, texts, situation, (ms, last) in itertools.product(STAGES, TEXTS, SITUATIONS, LAST):
        talk = Talk(LIMITS)
        talk.send(*stage, *texts, *situation)
        yield talk.later(ms), last


def test_every_cell_is_asked_and_every_edge_is_taken_and_no_other(
    taken: set[Edge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("makima_tts.session.machine._MAX_BUFFERED_REPLIES", 3)
    for talk, last in conversations():
        talk.send(last)
    moved = {edge for edge in taken if edge.following is not edge.state}
    asked = {Edge(edge.state, edge.event) for edge in taken}
    assert moved | asked == declared(SESSION_TABLE) | declared(UTTERANCE_TABLE)


@pytest.mark.parametrize(("state", "event"), [(SessionState.READY, Stop()), (SessionState.LOADING, READY)])
def test_a_transition_that_its_cell_does_not_name_fails_loudly(
    state: SessionState, event: SessionInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = SESSION_TABLE[state]
    monkeypatch.setitem(row, type(event), row[type(event)]._replace(leads_to=()))
    talk = in_state(state)
    with pytest.raises(AssertionError, match=f"from {state} to"):
        talk.send(event)
    assert talk.session.state is state


def test_an_utterance_may_not_leave_its_table_either(monkeypatch: pytest.MonkeyPatch) -> None:
    row = UTTERANCE_TABLE[UtteranceState.SPEAKING_CLOSED]
    monkeypatch.setitem(row, Cancel, row[Cancel]._replace(leads_to=()))
    talk = in_state(SessionState.SPEAKING)
    with pytest.raises(AssertionError, match="from speaking closed to ended"):
        talk.send(Cancel())
