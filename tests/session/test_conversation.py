"""What a client may rely on, one rule a test."""

from makima_tts.protocol import Cancel, Complete, Limits, Ping, Start, Stop
from makima_tts.session.effects import JoinContract, LoadVoice
from makima_tts.session.inputs import EngineFailed, EngineLoading, Malformed, Tick, VoiceLoaded
from tests.sentences import WORDLESS
from tests.session.talk import READY, Talk, begun, errors, messages, types

# The three kinds of client


def test_a_client_with_start_receives_the_base_set_in_order() -> None:
    talk = Talk()
    talk.send(READY, Start(voice="makima"), VoiceLoaded("narrator", "makima has no clip"))
    talk.speak("Hello there.")
    talk.audio()
    talk.ended()
    talk.send(Stop(reason="bye"))
    assert types(talk.effects) == ["ready", "started", "audio", "complete", "stopped", "close 1000"]


def test_a_page_speaks_right_after_open_and_receives_audio_end() -> None:
    talk = Talk()
    talk.speak("Hello there.")
    talk.send(READY)
    talk.audio()
    talk.ended()
    assert types(talk.effects) == ["ready", "audio", "complete", "audio_end"]


def test_a_client_with_events_receives_the_extended_set() -> None:
    talk = Talk(events=True)
    talk.send(EngineLoading("weights", 0.1), READY)
    talk.speak("Hello there.")
    talk.audio()
    talk.ended()
    assert types(talk.effects) == [
        *["loading", "ready", "speaking", "audio"],
        *["sentence", "complete", "audio_end"],
    ]


def test_loading_is_sent_at_most_once_a_second() -> None:
    talk = Talk(events=True)
    for _ in range(30):
        talk.later(100).send(EngineLoading("weights", 0.1))
    assert types(talk.effects) == ["loading"] * 3


def test_sentences_tile_the_audio_and_carry_the_text_as_sent() -> None:
    talk = Talk(events=True).started()
    talk.speak("The first sentence\x07 is here.  And the second one follows.")
    talk.audio(piece=0, samples=2400)
    talk.audio(piece=1, samples=4800)
    sentences = [message for message in messages(talk.effects) if message.type == "sentence"]
    assert [(one.index, one.start_ms, one.end_ms) for one in sentences] == [(0, 0, 100), (1, 100, 300)]
    assert sentences[0].text == "The first sentence\x07 is here."


# Loading


def test_ready_is_the_first_message_whatever_the_client_sent_before() -> None:
    talk = Talk()
    talk.send(Ping(id="a"), Malformed("no"))
    talk.speak(" ")
    talk.speak("Hello there.")
    talk.send(Cancel())
    assert types(talk.effects) == []
    talk.send(READY)
    assert types(talk.effects)[0] == "ready"
    assert sorted(types(talk.effects)[1:]) == ["audio_end", "error", "error", "pong"]


def test_start_is_deferred_until_ready() -> None:
    talk = Talk()
    assert types(talk.send(Start(sample_rate=16000))) == []
    effects = talk.send(READY)
    assert types(effects) == ["ready"]
    assert LoadVoice(None) in effects
    assert messages(effects)[0].sample_rate == 16000


def test_text_sent_while_starting_waits_for_started() -> None:
    talk = Talk()
    talk.send(READY, Start())
    assert begun(talk.speak()) == []
    effects = talk.send(VoiceLoaded("makima", None))
    assert types(effects) == ["started"]
    assert begun(effects) == ["u1"]


def test_replies_buffered_before_ready_are_bounded() -> None:
    talk = Talk()
    for number in range(200):
        talk.send(Ping(id=str(number)))
    assert types(talk.effects)[-1] == "close 1008"


def test_loading_for_too_long_sends_an_error_and_closes() -> None:
    talk = Talk()
    talk.speak()
    effects = talk.later(600_000).send(Tick())
    assert errors(effects) == ["MODEL_LOADING", "MODEL_LOADING"]
    assert types(effects)[-1] == "close 1013"


def test_failed_loading_sends_an_error_and_closes() -> None:
    effects = Talk().send(EngineFailed("no weights"))
    assert errors(effects) == ["TTS_UNAVAILABLE"]
    assert types(effects)[-1] == "close 1011"


# Starting


def test_start_is_refused_while_an_utterance_is_pending() -> None:
    talk = Talk().page()
    talk.speak()
    assert errors(talk.send(Start())) == ["INVALID_MESSAGE"]


def test_start_is_allowed_again_once_nothing_is_pending() -> None:
    talk = Talk().started()
    talk.speak()
    talk.audio()
    talk.ended()
    assert types(talk.send(Start(encoding="pcm32f"), VoiceLoaded("makima", None))) == ["started"]


def test_starting_joins_the_contract_or_leaves_the_one_before() -> None:
    assert JoinContract("c1") in Talk().page().send(Start(contract_id="c1"))
    assert JoinContract("c1") in Talk().send(Start(contract_id="c1"))
    assert JoinContract(None) in Talk().page().send(Start())


def test_a_later_start_replaces_one_without_an_answer() -> None:
    talk = Talk()
    talk.send(Start(sample_rate=8000), Start(sample_rate=16000), READY)
    talk.send(Start(sample_rate=48000), VoiceLoaded("makima", None))
    assert types(talk.effects) == ["ready", "started"]
    assert messages(talk.effects)[-1].sample_rate == 48000
    talk.send(Start())
    talk.speak()
    assert errors(talk.send(Start())) == ["INVALID_MESSAGE"]


# The queue


def test_higher_priority_goes_first_but_never_interrupts() -> None:
    talk = Talk().started()
    talk.speak(utterance_id="running", priority="low")
    talk.speak(utterance_id="low", priority="low")
    talk.speak(utterance_id="normal-1")
    talk.speak(utterance_id="high", priority="high")
    talk.speak(utterance_id="normal-2")
    order = []
    running = "running"
    for _ in range(5):
        talk.audio(running)
        order.append(running)
        following = begun(talk.ended(running))
        running = following[0] if following else ""
    assert order == ["running", "high", "normal-1", "normal-2", "low"]


def test_a_full_queue_says_when_to_retry() -> None:
    talk = Talk(Limits(max_queued_utterances=2)).started()
    for _ in range(3):
        assert errors(talk.speak()) == []
    refusal = messages(talk.speak(utterance_id="more"))[0]
    assert (refusal.code, refusal.utterance_id, refusal.recoverable) == ("RATE_LIMITED", "more", True)
    assert refusal.retry_after_ms >= 1000


def test_the_servers_ids_differ_from_the_clients_ids() -> None:
    talk = Talk().started()
    talk.speak(utterance_id="u1")
    talk.speak(utterance_id="u3")
    talk.speak()
    talk.audio("u1")
    talk.ended("u1")
    talk.speak()
    assert [one.utterance_id for one in messages(talk.send(Cancel()))] == ["u3", "u2", "u4"]


def test_a_refused_utterance_may_be_sent_again() -> None:
    talk = Talk(Limits(max_queued_utterances=1)).started()
    talk.speak()
    talk.speak()
    talk.speak(utterance_id="again")
    talk.send(Cancel(utterance_id="u2"))
    assert errors(talk.speak(utterance_id="again")) == []


def test_text_that_is_too_long_or_not_speakable_is_not_accepted() -> None:
    talk = Talk().started()
    for text in (*WORDLESS, "a" * 1001):
        (error,) = messages(talk.speak(text, utterance_id="x"))
        reason = "nothing_to_say" if text in WORDLESS else None
        assert (error.code, error.reason) == ("INVALID_TEXT", reason), text
    assert talk.session.pending_count == 0


# Timings


def test_the_limit_of_a_message_counts_its_text_as_spoken() -> None:
    linked = "a" * 990 + "[ me](https://a.org/" + "b" * 500 + ")"
    talk = Talk().started()
    assert errors(talk.speak(linked)) == []
    assert errors(talk.speak("a" * 400 + linked)) == ["INVALID_TEXT"]
    plain = Talk().started(text_cleaning="plain")
    assert errors(plain.speak(linked)) == ["INVALID_TEXT"]


def test_a_message_of_code_alone_gets_an_error_that_says_so() -> None:
    (error,) = messages(Talk().started().speak("```py\nx = 1\n```"))
    assert error.code == "INVALID_TEXT"
    assert "code" in error.message


def test_complete_counts_time_text_and_audio() -> None:
    talk = Talk().started()
    talk.speak("Hello there.")
    talk.speak("And again, then.")
    talk.later(100).audio("u1", samples=24_000)
    talk.later(50).ended("u1")
    talk.later(30).audio("u2", samples=12_000)
    talk.later(500).audio("u2", samples=12_000, ends_piece=False)
    complete = messages(talk.ended("u2"))[0]
    assert isinstance(complete, Complete)
    assert complete.queue_ms == 150
    assert complete.ttfa_ms == 30
    assert complete.duration_ms == 680
    assert complete.audio_length_ms == 1000
    assert complete.total_chunks == 2
    assert complete.characters_processed == complete.text_length == len("And again, then.")
    assert complete.rtf == 0.02


def test_a_truncated_utterance_counts_the_spoken_characters() -> None:
    talk = Talk().started()
    talk.speak("The first sentence is here. The second one is never reached.")
    talk.audio(piece=0)
    complete = messages(talk.ended(reason="length"))[0]
    assert complete.finish_reason == "length"
    assert complete.characters_processed == len("The first sentence is here.")
    assert complete.text_length > complete.characters_processed


def test_json_transport_numbers_chunks_and_ends_with_an_empty_final_one() -> None:
    talk = Talk().started(transport="json")
    talk.speak()
    talk.audio(samples=2400)
    talk.audio(samples=2400, ends_piece=False)
    *chunks, complete = messages(talk.effects)[2:] + messages(talk.ended())
    assert [(one.sequence_number, one.is_final, one.timestamp_ms) for one in chunks] == [
        (1, False, 0),
        (2, False, 100),
        (3, True, 200),
    ]
    assert chunks[-1].data == ""
    assert complete.total_chunks == 2
