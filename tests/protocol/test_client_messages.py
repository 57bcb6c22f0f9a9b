"""Valid and invalid messages from clients, and the errors for invalid ones."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from makima_tts.errors import InvalidMessage
from makima_tts.protocol import (
    AudioFormat,
    Cancel,
    Encoding,
    Flush,
    Ping,
    Speak,
    Start,
    Stop,
    language_name,
    parse_client_message,
)


def parse(**fields: Any) -> object:
    return parse_client_message(json.dumps(fields))


def refusal(text: str) -> str:
    with pytest.raises(InvalidMessage) as refused:
        parse_client_message(text)
    return refused.value.message


def test_start_has_the_documented_defaults() -> None:
    start = parse(type="start")
    assert start == Start(
        sample_rate=None,
        encoding="pcm16",
        speed=1.0,
        voice=None,
        language="English",
        transport="binary",
        events=False,
        auth_token=None,
        contract_id=None,
    )
    assert Start().format == AudioFormat(24000, "pcm16", 1.0)


def test_null_means_absent_for_every_optional_field() -> None:
    names = ["sampleRate", "encoding", "speed", "voice", "language", "transport", "events"]
    assert parse(type="start", **dict.fromkeys([*names, "authToken", "contractId"])) == Start()
    optional = dict.fromkeys(["priority", "utteranceId", "final", "voice", "language", "seed"])
    assert parse(type="speak", text="Hi.", **optional) == Speak(text="Hi.")
    assert parse(type="cancel", utteranceId=None, playedMs=None) == Cancel()
    assert parse(type="stop", reason=None) == Stop()
    assert parse(type="ping", id=None) == Ping()


@pytest.mark.parametrize("sample_rate", [None, 8000])
@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_g711_has_a_rate_of_8_khz(encoding: Encoding, sample_rate: int | None) -> None:
    start = parse(type="start", encoding=encoding, sampleRate=sample_rate, speed=1)
    assert isinstance(start, Start)
    assert start.format == AudioFormat(8000, encoding, 1.0)
    assert start.format.bytes_per_sample == 1


def test_unknown_fields_are_ignored() -> None:
    assert parse(type="flush", utteranceId="a", flavour="mint") == Flush(utterance_id="a")


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        *[("English", "English"), ("ENGLISH", "English"), ("en", "English"), ("en-GB", "English")],
        *[("zh-Hans-CN", "Chinese"), ("ja_JP", "Japanese"), ("auto", "Auto"), ("Klingon", None)],
        *[("tlh", None), ("", None), ("e", None)],
    ],
)
def test_a_language_is_a_name_or_a_tag_in_any_case(wanted: str, name: str | None) -> None:
    assert language_name(wanted) == name


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": "dance"}, "`type` must be start, speak"),
        ({}, "`type` must be start, speak"),
        ({"type": "start", "sampleRate": 12345}, "8000, 16000"),
        ({"type": "start", "sampleRate": "fast"}, "sampleRate"),
        ({"type": "start", "encoding": "mp3"}, "'pcm16', 'pcm32f', 'mulaw' or 'alaw'"),
        ({"type": "start", "encoding": "alaw", "sampleRate": 24000}, "sampleRate must be 8000"),
        ({"type": "start", "speed": 2.1}, "must be from 0.5 to 2.0"),
        ({"type": "start", "speed": 0.49}, "must be from 0.5 to 2.0"),
        ({"type": "start", "speed": "fast"}, "speed"),
        ({"type": "start", "language": "Klingon"}, "Chinese, English"),
        ({"type": "start", "events": 1}, "events"),
        ({"type": "speak"}, "`text`: Field required"),
        ({"type": "speak", "text": None}, "`text`: Field required"),
        ({"type": "speak", "text": 7}, "valid string"),
        ({"type": "speak", "text": "a", "final": False}, "utteranceId is required"),
        ({"type": "speak", "text": "a", "utteranceId": "no spaces"}, "utteranceId"),
        ({"type": "speak", "text": "a", "utteranceId": "a" * 65}, "utteranceId"),
        ({"type": "speak", "text": "a", "priority": "urgent"}, "'low', 'normal' or 'high'"),
        ({"type": "speak", "text": "a", "seed": -2}, "seed"),
        ({"type": "flush"}, "utteranceId"),
        ({"type": "cancel", "utteranceId": 5}, "utteranceId"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_with_what_is_allowed(fields: dict[str, Any], words: str) -> None:
    assert words in refusal(json.dumps(fields))


@pytest.mark.parametrize(
    "text",
    [
        *["", "hello", "[]", "null", "7", '"start"', "{", '{"type":"ping"', "[" * 5000, '{"a":' * 5000],
        *[
            '{"type":"flush","utteranceId":"\\ud800"}',
            '{"type":"speak","text":"a","seed":' + "9" * 5000 + "}",
        ],
        *['{"type":"start","speed":NaN}', '{"type":"start","speed":Infinity}', "\x00", "{}{}"],
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_an_invalid_frame_is_refused_in_one_sentence(text: str) -> None:
    assert 10 < len(refusal(text)) < 200


NO_HINTS = [
    "-5",
    "-0.6",
    "2147483648",
    "1e300",
    "9" * 5000,
    "NaN",
    "-Infinity",
    '"soon"',
    "true",
    "[812]",
    "{}",
    "null",
]


@pytest.mark.parametrize("hint", NO_HINTS, ids=lambda hint: hint[:12])
def test_a_hint_that_makes_no_sense_is_left_out_and_its_message_is_not(hint: str) -> None:
    assert parse_client_message(f'{{"type":"cancel","utteranceId":"a","playedMs":{hint}}}') == Cancel(
        utterance_id="a"
    )
    if not hint.startswith('"'):
        assert parse_client_message(f'{{"type":"stop","reason":{hint}}}') == Stop()


@given(st.floats(0, 2**31 - 1))
def test_a_played_time_is_rounded_to_whole_milliseconds(played_ms: float) -> None:
    cancel = parse(type="cancel", playedMs=played_ms)
    assert isinstance(cancel, Cancel)
    assert cancel.played_ms is not None
    assert abs(cancel.played_ms - played_ms) <= 0.5


def test_the_id_of_a_ping_comes_back_as_it_was_sent_and_a_long_reason_is_cut() -> None:
    ids = [5, "a", "", "a" * 256, "\N{THUMBS UP SIGN}"]
    assert [getattr(parse(type="ping", id=each), "id", None) for each in ids] == ids
    assert parse(type="ping", id="a" * 257) == parse(type="ping", id=[5]) == Ping()
    assert parse(type="stop", reason="a" * 300) == Stop(reason="a" * 256)


def test_half_of_a_surrogate_pair_is_kept_in_a_text_alone() -> None:
    speak = parse(type="speak", text="a \ud83d", voice="\ud83d\udc4d\udc4d")
    assert speak == Speak.model_construct(text="a \ud83d", voice="\N{THUMBS UP SIGN}\ufffd")


@pytest.mark.parametrize("field", ["type", "voice", "seed", "priority", "final", "utteranceId", "language"])
@pytest.mark.parametrize("value", ["Geheimnis 4711", {"Geheimnis 4711": 1}, ["Geheimnis 4711"]], ids=str)
def test_a_refusal_never_repeats_the_input(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"type": "speak", "text": "a", field: value}
    try:
        parse_client_message(json.dumps(fields))
    except InvalidMessage as refused:
        assert "Geheimnis" not in refused.message  # noqa: PT017 - a string is a fine voice
    assert "Geheimnis" not in repr(Speak(text="Geheimnis 4711"))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5
)


@given(ANY_JSON)
def test_any_json_is_a_message_or_refused(value: Any) -> None:
    for message in (value, {"type": value}, {"type": "speak", "text": value}):
        try:
            parse_client_message(json.dumps(message))
        except InvalidMessage as refused:
            assert refused.message  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize(
    ("text", "utterance_id"),
    [
        ('{"type":"speak","utteranceId":"a","text":5}', "a"),
        ('{"type":"unknown","utteranceId":"a"}', "a"),
        ('{"type":"speak","utteranceId":"not an id","text":"x"}', None),
        ('{"type":"speak","utteranceId":["a"],"text":"x"}', None),
        ('{"type":"speak"}', None),
        ("[]", None),
        ("{", None),
    ],
)
def test_an_invalid_message_has_its_utterance_id_if_that_can_be_read(
    text: str, utterance_id: str | None
) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        parse_client_message(text)
    assert refusal.value.utterance_id == utterance_id
