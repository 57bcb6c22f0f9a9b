"""How utterances and sessions end: cancelled, failed, complete, idle, drained; one rule a test."""

import pytest

from makima_tts.errors import (
    GpuOutOfMemory,
    InvalidText,
    RateLimited,
    SynthesisError,
    TtsError,
    VoiceNotFound,
)
from makima_tts.protocol import Cancel, Flush, Limits, Ping, Start, Stop
from makima_tts.session.effects import CancelSpeech, StartSpeech, UtteranceEnded, WakeAt
from makima_tts.session.inputs import (
    Disconnected,
    Drain,
    EngineFailed,
    Interrupt,
    Malformed,
    SessionInput,
    SpeechEnded,
    SpeechFailed,
    Tick,
    VoiceLoaded,
)
from tests.session.talk import READY, Talk, begun, errors, messages, types

# Cancelling


def test_no_audio_of_a_cancelled_utterance_follows_its_terminal_message() -> None:
    talk = Talk().started()
    talk.speak()
    talk.audio()
    effects = talk.send(Cancel(utterance_id="u1", played_ms=40))
    assert CancelSpeech("u1") in effects
    cancelled = messages(effects)[0]
    assert (cancelled.code, cancelled.audio_ms, cancelled.played_ms) == ("CANCELLED", 80, 40)
    assert talk.audio() == []
    assert talk.ended() == []


def test_a_cancel_without_id_cancels_queued_utterances_too() -> None:
    talk = Talk().started()
    talk.speak()
    talk.speak()
    effects = talk.send(Cancel())
    assert [(one.utterance_id, one.code, one.audio_ms) for one in messages(effects)] == [
        ("u1", "CANCELLED", 0),
        ("u2", "CANCELLED", 0),
    ]


def test_a_page_receives_only_audio_end_for_a_cancel() -> None:
    talk = Talk().page()
    talk.speak()
    talk.audio()
    assert types(talk.send(Cancel())) == ["audio_end"]


def test_a_completion_that_races_a_cancel_is_dropped() -> None:
    talk = Talk().started()
    talk.speak()
    talk.audio()
    assert types(talk.send(Cancel(), SpeechEnded("u1", "stop"))) == ["error"]
    talk.speak()
    talk.audio("u2")
    assert types(talk.send(SpeechEnded("u2", "stop"), Cancel())) == ["complete"]


def test_cancel_and_flush_of_an_unknown_or_ended_utterance_have_no_effect() -> None:
    talk = Talk().started()
    assert talk.send(Cancel(utterance_id="x"), Flush(utterance_id="x"), Cancel()) == []


def test_an_interrupt_cancels_everything() -> None:
    talk = Talk().started()
    talk.speak()
    talk.speak()
    assert errors(talk.send(Interrupt())) == ["CANCELLED", "CANCELLED"]


def test_clients_with_events_receive_interrupted_when_nothing_is_pending() -> None:
    talk = Talk().started(events=True)
    talk.speak()
    talk.audio("u1")
    assert types(talk.send(SpeechEnded("u1", "stop"))) == ["complete"]
    assert types(talk.send(Interrupt())) == ["interrupted"]
    assert types(Talk().started().send(Interrupt())) == []


# Failing


@pytest.mark.parametrize(
    "error",
    [
        SynthesisError("x"),
        GpuOutOfMemory("x"),
        VoiceNotFound("x"),
        InvalidText("x"),
        RateLimited("x", retry_after_s=2.5),
    ],
    ids=lambda error: error.code,
)
def test_a_failing_utterance_fails_alone(error: SynthesisError) -> None:
    talk = Talk().started()
    talk.speak()
    talk.speak()
    effects = talk.failed(error)
    failure = messages(effects)[0]
    assert (failure.code, failure.utterance_id, failure.recoverable) == (error.code, "u1", error.recoverable)
    assert failure.retry_after_ms == (2500 if error.code == "RATE_LIMITED" else None)
    assert begun(effects) == ["u2"]


def test_an_utterance_without_audio_ends_in_an_error() -> None:
    talk = Talk().started()
    talk.speak()
    assert errors(talk.ended()) == ["INVALID_TEXT"]


def test_text_that_waits_too_long_for_audio_times_out() -> None:
    talk = Talk().started()
    talk.speak()
    talk.later(29_999).send(Tick())
    effects = talk.later(1).send(Tick())
    assert errors(effects) == ["TIMEOUT"]
    assert CancelSpeech("u1") in effects


def test_a_live_text_whose_pieces_were_all_spoken_does_not_time_out() -> None:
    talk = Talk().started()
    talk.speak("This is a whole sentence. ", utterance_id="t", final=False)
    talk.speak("", utterance_id="t", final=False)
    talk.send(Flush(utterance_id="t"))
    talk.audio("t")
    talk.later(29_000).speak("Hm", utterance_id="t", final=False)
    assert errors(talk.later(2_000).send(Tick())) == []


def test_the_engine_going_down_fails_everything_and_closes() -> None:
    talk = Talk().started()
    talk.speak()
    talk.speak()
    effects = talk.send(EngineFailed("gone"))
    assert errors(effects) == ["TTS_UNAVAILABLE"] * 3
    assert types(effects)[-1] == "close 1011"


# Bad messages


def test_the_twentieth_invalid_message_closes() -> None:
    talk = Talk().started()
    talk.speak()
    for _ in range(19):
        talk.send(Malformed("no"))
    effects = talk.send(Malformed("no"))
    assert types(effects) == ["error", "error", "close 1008"]
    assert errors(effects) == ["INVALID_MESSAGE", "CANCELLED"]


# Session life


@pytest.mark.parametrize(("started", "code"), [(True, 4408), (False, 1000)])
def test_an_idle_session_is_closed(started: bool, code: int) -> None:
    talk = Talk().started() if started else Talk().page()
    effects = talk.later(120_000).send(Tick())
    assert types(effects) == ["stopped", f"close {code}"]
    assert messages(effects)[0].reason == "idle"


def test_a_session_with_a_pending_utterance_is_not_idle() -> None:
    talk = Talk(Limits(utterance_timeout_ms=10**9)).started()
    talk.speak()
    assert types(talk.later(120_000).send(Tick())) == []


def test_the_session_limit_ends_any_session() -> None:
    talk = Talk(Limits(utterance_timeout_ms=10**9)).started()
    talk.speak()
    effects = talk.later(3_600_000).send(Tick())
    assert types(effects) == ["error", "stopped", "close 1000"]
    assert messages(effects)[-1].reason == "session_limit"


def test_every_deadline_is_asked_for() -> None:
    talk = Talk()
    wishes = [effect.at_ms for effect in talk.send(READY) if isinstance(effect, WakeAt)]
    assert wishes == [120_000]
    wishes = [effect.at_ms for effect in talk.speak() if isinstance(effect, WakeAt)]
    assert wishes == [30_000]


def test_an_early_tick_asks_for_the_next_one() -> None:
    talk = Talk().page()
    assert talk.later(60_000).send(Ping()) != []
    assert [effect for effect in talk.later(60_000).send(Tick()) if isinstance(effect, WakeAt)] == [
        WakeAt(180_000)
    ]


def test_stop_ends_each_utterance_and_then_the_session() -> None:
    talk = Talk().started()
    talk.speak()
    talk.speak()
    assert types(talk.send(Stop(reason="done"))) == ["error", "error", "stopped", "close 1000"]
    assert messages(talk.effects)[-1].reason == "done"


def test_a_disconnect_cancels_at_once_and_sends_nothing() -> None:
    talk = Talk().started()
    talk.speak()
    talk.speak()
    effects = talk.send(Disconnected())
    assert CancelSpeech("u1") in effects
    assert types(effects) == []
    assert [effect.outcome for effect in effects if isinstance(effect, UtteranceEnded)] == ["CANCELLED"] * 2


def test_draining_lets_pending_utterances_finish() -> None:
    talk = Talk().started()
    talk.speak()
    talk.speak("Still being ", utterance_id="t", final=False)
    assert types(talk.send(Drain(20_000))) == []
    assert errors(talk.speak(utterance_id="new")) == ["TTS_UNAVAILABLE"]
    assert errors(talk.send(Start())) == ["TTS_UNAVAILABLE"]
    talk.speak("written.", utterance_id="t")
    talk.audio()
    assert begun(talk.ended()) == ["t"]
    talk.audio("t")
    effects = talk.ended("t")
    assert types(effects) == ["complete", "stopped", "close 1001"]
    assert messages(effects)[-1].reason == "draining"


@pytest.mark.parametrize("started", [True, False])
def test_draining_ends_at_its_deadline_with_an_error(started: bool) -> None:
    talk = Talk().started() if started else Talk().page()
    talk.speak()
    talk.send(Drain(20_000), Drain(90_000))
    effects = talk.later(20_000).send(Tick())
    assert types(effects) == ["error", "stopped", "close 1001"]
    assert errors(effects) == ["TTS_UNAVAILABLE"]


@pytest.mark.parametrize("before", [(), (Start(),)], ids=["loading", "held"])
def test_text_sent_while_loading_may_finish_while_draining(before: tuple[Start, ...]) -> None:
    talk = Talk()
    talk.send(*before)
    talk.speak()
    assert types(talk.send(Drain(20_000))) == []
    talk.speak(utterance_id="late")
    effects = talk.send(READY)
    effects += talk.send(VoiceLoaded("makima", None))
    assert errors(effects) == ["TTS_UNAVAILABLE"]
    assert begun(effects) == ["u1"]
    talk.audio()
    assert types(talk.ended())[-2:] == ["stopped", "close 1001"]


def test_a_cancel_while_draining_and_loading_stops_the_session() -> None:
    talk = Talk()
    talk.speak()
    talk.send(Drain(20_000))
    assert types(talk.send(Cancel()))[-2:] == ["stopped", "close 1001"]


def test_draining_stops_an_idle_session() -> None:
    assert types(Talk().page().send(Drain(20_000))) == ["stopped", "close 1001"]


def test_voice_and_language_of_an_utterance_override_those_of_the_session() -> None:
    talk = Talk().started(language="de")
    first = talk.speak()[0]
    assert isinstance(first, StartSpeech)
    assert (first.voice, first.language) == (None, "German")
    talk.send(Cancel())
    second = talk.speak(voice="alice", language="ja", seed=7)[0]
    assert isinstance(second, StartSpeech)
    assert (second.voice, second.language, second.seed) == ("alice", "Japanese", 7)


# Ids after a failure


RECOVERABLE = [SynthesisError("x"), GpuOutOfMemory("x"), RateLimited("x", retry_after_s=2.5)]


@pytest.mark.parametrize("error", RECOVERABLE, ids=lambda error: error.code)
def test_an_id_is_free_again_after_a_recoverable_failure(error: TtsError) -> None:
    talk = Talk().started()
    talk.speak(utterance_id="a")
    talk.failed(error, "a")
    assert begun(talk.speak(utterance_id="a")) == ["a"]


@pytest.mark.parametrize("error", RECOVERABLE, ids=lambda error: error.code)
def test_the_rest_of_a_failed_live_text_is_dropped_up_to_its_end(error: TtsError) -> None:
    talk = Talk().started()
    talk.speak("This sentence is whole. And", utterance_id="a", final=False)
    talk.failed(error, "a")
    assert talk.speak(" this is late.", utterance_id="a", final=False) == []
    assert talk.speak("", utterance_id="a") == []
    assert begun(talk.speak(utterance_id="a")) == ["a"]


def test_the_id_of_a_refused_live_text_is_free_after_its_end() -> None:
    talk = Talk(Limits(max_queued_utterances=1)).started()
    for _ in range(2):
        talk.speak()
    assert errors(talk.speak("The third", utterance_id="a", final=False)) == ["RATE_LIMITED"]
    talk.ended("u1")
    assert talk.speak(" one.", utterance_id="a") == []
    talk.audio("u2")
    talk.ended("u2")
    assert begun(talk.speak(utterance_id="a")) == ["a"]


@pytest.mark.parametrize("ending", [Cancel(utterance_id="a"), SpeechFailed("a", InvalidText("x"))])
def test_the_id_of_a_cancelled_or_unspeakable_utterance_is_not_free(ending: SessionInput) -> None:
    talk = Talk().started()
    talk.speak("This sentence is whole. And", utterance_id="a", final=False)
    talk.send(ending)
    assert talk.speak(" this.", utterance_id="a") == []
    assert talk.speak(utterance_id="a") == []


def test_an_invalid_message_names_its_utterance() -> None:
    talk = Talk().started()
    talk.speak(utterance_id="a")
    for refused in (
        talk.speak(utterance_id="a"),
        talk.send(Malformed("no", utterance_id="a")),
        [*talk.audio("a"), *talk.ended("a")] and talk.speak(utterance_id="a"),
    ):
        (error,) = messages(refused)
        assert (error.code, error.utterance_id) == ("INVALID_MESSAGE", "a")
