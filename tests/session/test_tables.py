"""Every state against every input: a cell holds effects, or is absent and answers as the table says."""

import pytest

from makima_tts.errors import SynthesisError
from makima_tts.protocol import Cancel, ClientMessage, Flush, Ping, Speak, Start, Stop
from makima_tts.session import (
    SESSION_TABLE,
    AudioReady,
    Disconnected,
    Drain,
    EngineFailed,
    EngineLoading,
    Interrupt,
    Malformed,
    SessionInput,
    SessionState,
    SpeechEnded,
    SpeechFailed,
    Tick,
    VoiceLoaded,
)
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
    """A session that is in this state by way of ordinary inputs."""
    talk = Talk()
    ways: dict[SessionState, list[SessionInput]] = {
        SessionState.LOADING: [],
        SessionState.HELD: [Start()],
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
    elif event in CLIENT and state is not SessionState.STOPPED:
        held = state in (SessionState.LOADING, SessionState.HELD)
        assert errors(effects if not held else talk.send(READY)) == ["INVALID_MESSAGE"]
    else:
        assert effects == []
        assert talk.session.state is state


def test_a_stopped_session_is_deaf() -> None:
    talk = in_state(SessionState.STOPPED)
    assert talk.send(*CLIENT, *OTHERS) == []
