"""Live text: pieces, partial text, stalls, and text that comes too late."""

import json

from hypothesis import given, settings, strategies as st

from makima_tts.protocol import Cancel, Flush, Limits, Speak, parse_client_message
from makima_tts.session.effects import CancelSpeech, Effect, FeedPiece, FinishText, WakeAt
from makima_tts.session.inputs import Tick
from makima_tts.text import pieces_of
from tests.session.talk import Talk, begun, errors, messages


def fed_pieces(effects: list[Effect]) -> list[str]:
    """The texts that end a piece."""
    return [one.text for one in effects if isinstance(one, FeedPiece) and one.ends_piece]


def test_live_text_is_spoken_while_it_is_still_being_written() -> None:
    talk = Talk().started()
    effects = talk.speak("Once upon a ti", utterance_id="t", final=False)
    effects += talk.speak("me there was a king. He had thr", utterance_id="t", final=False)
    effects += talk.speak("ee sons.", utterance_id="t")
    assert [effect for effect in effects if isinstance(effect, FeedPiece | FinishText)] == [
        FeedPiece("t", "Once upon a", ends_piece=False),
        FeedPiece("t", " time there was a king."),
        FeedPiece("t", "He had", ends_piece=False),
        FeedPiece("t", " three sons."),
        FinishText("t"),
    ]


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(["**Well,", "** she", " sa", "id. ", "It `is`", "\n- ", "so, ", "重要。"]),
        max_size=30,
    )
)
def test_partial_texts_joined_are_the_pieces_of_the_whole_text(tokens: list[str]) -> None:
    talk = Talk().started()
    effects = [one for token in tokens for one in talk.speak(token, utterance_id="t", final=False)]
    effects += talk.speak("The end.", utterance_id="t")
    fed = [effect for effect in effects if isinstance(effect, FeedPiece)]
    pieces = "".join(effect.text + "\0" * effect.ends_piece for effect in fed)
    assert pieces.split("\0")[:-1] == [piece.text for piece in pieces_of("".join(tokens) + "The end.")]


def spoken_as(units: list[str]) -> tuple[list[str], int]:
    """The sentences of a text that arrives in these parts as JSON, as sent; and its length."""
    talk = Talk(events=True).started(events=True)
    frames = [{"type": "speak", "utteranceId": "t", "final": False, "text": unit} for unit in units]
    frames.append({"type": "speak", "utteranceId": "t", "text": " The end."})
    talk.send(*(parse_client_message(json.dumps(frame)) for frame in frames))
    pieces = [effect for effect in talk.effects if isinstance(effect, FeedPiece) and effect.ends_piece]
    for index in range(len(pieces)):
        talk.audio("t", piece=index)
    talk.ended("t")
    *sentences, complete = messages(talk.effects)[-len(pieces) - 1 :]
    return [sentence.text for sentence in sentences], complete.text_length


# Halves of surrogate pairs too.
ANY_UNICODE = st.characters(exclude_categories=())
TOKENS = st.sampled_from(["\N{THUMBS UP SIGN}", "\ud83d", "\udc4d", ". ", "Well"]) | ANY_UNICODE


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(TOKENS, max_size=30).map("".join))
def test_any_split_in_utf_16_code_units_is_spoken_as_the_whole_text(text: str) -> None:
    utf_16 = text.encode("utf-16-le", "surrogatepass")
    units = [utf_16[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(utf_16), 2)]
    whole = utf_16.decode("utf-16-le", "replace")
    assert spoken_as(units) == spoken_as([whole])
    assert spoken_as([text]) == spoken_as([whole])
    assert spoken_as(units)[1] == len(whole) + len(" The end.")


def test_a_flush_or_a_pause_within_a_character_loses_nothing() -> None:
    talk = Talk(Limits(max_text_stall_ms=1000)).started(events=True)
    talk.speak("Thumbs \ud83d", utterance_id="t", final=False)
    talk.send(Flush(utterance_id="t"))
    talk.speak("\udc4d up \ud83d", utterance_id="t", final=False)
    talk.later(1000).send(Tick())
    talk.audio("t")
    talk.audio("t", piece=1)
    complete = messages(talk.ended("t"))[-1]
    assert complete.text_length == len("Thumbs \N{THUMBS UP SIGN} up \ufffd")
    assert [one.text for one in messages(talk.effects) if one.type == "sentence"] == [
        *("Thumbs", "\N{THUMBS UP SIGN} up \ufffd")
    ]


def test_a_whole_text_is_fed_in_whole_pieces() -> None:
    effects = Talk().started().speak("Once upon a time there was a king. He had three sons.")
    assert [effect for effect in effects if isinstance(effect, FeedPiece)] == [
        FeedPiece("u1", "Once upon a time there was a king."),
        FeedPiece("u1", "He had three sons."),
    ]


def test_flush_speaks_the_text_so_far() -> None:
    talk = Talk().started()
    assert FeedPiece("t", "Wait a", ends_piece=False) in talk.speak(
        "Wait a moment", utterance_id="t", final=False
    )
    assert FeedPiece("t", " moment") in talk.send(Flush(utterance_id="t"))


def test_a_sentence_that_has_ended_is_spoken_while_its_writer_pauses() -> None:
    talk = Talk(Limits(text_idle_ms=300)).started()
    talk.speak("A first sentence here. Then ", utterance_id="t", final=False)
    assert talk.later(299).send(Tick()) == [WakeAt(300)]
    effects = talk.later(1).send(Tick())
    assert FeedPiece("t", " here.") in effects
    assert FeedPiece("t", "Then", ends_piece=False) in effects
    assert FinishText("t") not in effects
    assert FeedPiece("t", " we go on.") in talk.later(9_000).speak("we go on.", utterance_id="t")


def test_each_text_begins_the_wait_for_a_pause_anew_and_a_pause_counts_once() -> None:
    talk = Talk(Limits(text_idle_ms=300)).started()
    for token in ("Let me", " look", " that", " up."):
        assert not fed_pieces(talk.later(200).speak(token, utterance_id="t", final=False))
        assert not fed_pieces(talk.send(Tick()))
    assert fed_pieces(talk.later(300).send(Tick())) == [" up."]
    wakes = [one.at_ms for one in talk.later(1).send(Tick()) if isinstance(one, WakeAt)]
    assert wakes == [800 + Limits().max_text_stall_ms]


def test_a_queued_text_settles_too_and_closed_text_has_nothing_to_settle() -> None:
    talk = Talk(Limits(text_idle_ms=300)).started()
    talk.speak(utterance_id="first")
    talk.speak("A first sentence here.", utterance_id="t", final=False)
    talk.later(300).send(Tick())
    talk.audio("first")
    assert FeedPiece("t", "A first sentence here.") in talk.ended("first")
    talk.speak(" And more.", utterance_id="t")
    assert not fed_pieces(talk.later(300).send(Tick()))


def test_stalled_text_is_closed() -> None:
    talk = Talk().started()
    talk.speak("I was about to say", utterance_id="t", final=False)
    effects = talk.later(30_000).send(Tick())
    assert FeedPiece("t", " say") in effects
    assert FinishText("t") in effects


def test_slow_text_does_not_time_out_and_a_slow_engine_does() -> None:
    talk = Talk(Limits(utterance_timeout_ms=1000)).started()
    talk.speak("It", utterance_id="t", final=False)
    for _ in range(30):
        assert errors(talk.later(200).send(Tick(), Speak(text=" goes", utterance_id="t", final=False))) == []
    talk.audio("t", ends_piece=False)
    assert errors(talk.later(5000).send(Tick())) == []
    talk.speak(" on. And so it goes on", utterance_id="t", final=False)
    assert errors(talk.later(1000).send(Tick())) == ["TIMEOUT"]


def test_marks_are_not_spoken_unless_the_session_requests_plain_text() -> None:
    text = "**So** it is."
    assert FeedPiece("u1", "So it is.") in Talk().page().speak(text)
    assert FeedPiece("u1", text) in Talk(Limits(text_cleaning="plain")).page().speak(text)
    for mode in ("plain", "off"):
        assert FeedPiece("u1", text) in Talk().started(textCleaning=mode).speak(text)


def test_long_reasoning_fails_no_turn_and_is_in_no_sentence() -> None:
    talk = Talk(events=True).started()
    talk.speak("<think>", utterance_id="t", final=False)
    for _ in range(45):
        assert errors(talk.speak("So, what then? " * 64, utterance_id="t", final=False)) == []
    assert errors(talk.speak("<so> " * 300, utterance_id="t", final=False)) == []
    effects = talk.speak("</think>Here it is. <tool_call>{}</tool_call>And there.", utterance_id="t")
    assert [one.text for one in effects if isinstance(one, FeedPiece)] == ["Here it is.", "And there."]
    sent = talk.audio("t") + talk.audio("t", piece=1)
    sentences = [one.text for one in messages(sent) if one.type == "sentence"]
    assert sentences == ["Here it is.", "And there."]


def test_what_was_left_out_does_not_count_as_played_before_the_text_after_it() -> None:
    talk = Talk(events=True).started()
    text = "<think>Hm.</think>Here it is. <tool_call>{}</tool_call>And there."
    talk.speak(text)
    talk.audio(ends_piece=False)
    (cancelled,) = messages(talk.send(Cancel(played_ms=0)))
    assert (cancelled.text_spoken, cancelled.text_remaining) == ("", text)


def test_reasoning_may_be_ten_times_as_long_as_an_utterance() -> None:
    limits = Limits(max_utterance_chars=1000)
    for reasoning, spoken, codes in (
        ("so " * 300, "", []),
        ("so " * 3000, "", []),
        ("so " * 3400, "", ["INVALID_TEXT"]),
        ("so " * 300, "ever " * 198, []),
        ("so " * 300, "ever " * 202, ["INVALID_TEXT"]),
    ):
        talk = Talk(limits).started()
        effects = talk.speak("<think>", utterance_id="t", final=False)
        for part in (reasoning, "</think>", spoken[:500], spoken[500:]):
            effects += talk.speak(part, utterance_id="t", final=False)
        assert errors(effects) == codes, (len(reasoning), len(spoken))


def test_reasoning_alone_is_nothing_to_say() -> None:
    (error,) = messages(Talk().started().speak("<think>It is done.</think>"))
    assert (error.code, error.reason) == ("INVALID_TEXT", "nothing_to_say")


def test_stalled_text_without_speech_ends_in_an_error() -> None:
    talk = Talk().started()
    talk.speak("", utterance_id="t", final=False)
    assert errors(talk.later(30_000).send(Tick())) == ["INVALID_TEXT"]


def test_sentence_messages_carry_the_text_as_sent() -> None:
    talk = Talk(events=True).started()
    talk.speak("**That was it.** See [this](https://x.org).")
    sentences = [one for one in messages(talk.audio() + talk.audio(piece=1)) if one.type == "sentence"]
    assert [(one.text, one.start_ms, one.end_ms) for one in sentences] == [
        ("**That was it.**", 0, 80),
        ("See [this](https://x.org).", 80, 160),
    ]


def test_late_text_of_a_cancelled_utterance_is_dropped() -> None:
    talk = Talk().started()
    talk.speak("Once upon a time. ", utterance_id="t", final=False)
    talk.send(Cancel(utterance_id="t"))
    assert talk.speak("More of it.", utterance_id="t", final=False) == []


def test_late_text_of_a_refused_live_utterance_is_dropped() -> None:
    talk = Talk(Limits(max_queued_utterances=1)).started()
    talk.speak()
    talk.speak()
    assert errors(talk.speak("Once ", utterance_id="t", final=False)) == ["RATE_LIMITED"]
    assert talk.speak("upon a time.", utterance_id="t") == []


def test_text_for_a_closed_or_complete_utterance_is_invalid() -> None:
    talk = Talk().started()
    talk.speak(utterance_id="t")
    assert errors(talk.speak(utterance_id="t")) == ["INVALID_MESSAGE"]
    talk.audio("t")
    talk.ended("t")
    refusal = messages(talk.speak(utterance_id="t"))
    assert [(one.code, one.utterance_id) for one in refusal] == [("INVALID_MESSAGE", "t")]


def test_a_live_text_that_grows_too_long_ends_after_its_audio_so_far() -> None:
    talk = Talk(Limits(max_utterance_chars=50)).started()
    talk.speak("This sentence is short enough. And then ", utterance_id="t", final=False)
    talk.audio("t")
    effects = talk.speak("This one is not, by far.", utterance_id="t", final=False)
    assert CancelSpeech("t") in effects
    assert errors(effects) == ["INVALID_TEXT"]


def test_only_the_last_ids_are_remembered() -> None:
    talk = Talk(Limits(remembered_utterances=2)).started()
    for name in ("a", "b", "c"):
        talk.speak(utterance_id=name)
        talk.send(Cancel())
    assert talk.speak(utterance_id="c") == []
    assert begun(talk.speak(utterance_id="a")) == ["a"]
