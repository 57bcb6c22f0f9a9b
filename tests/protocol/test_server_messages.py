"""Server messages as JSON: camelCase, integers where documented, no absent fields."""

import json

from makima_tts.protocol import (
    AudioChunkMessage,
    AudioEnd,
    Complete,
    ErrorMessage,
    Pong,
    Started,
    Stopped,
    serialize,
)


def test_absent_fields_are_left_out() -> None:
    assert json.loads(serialize(Stopped())) == {"type": "stopped"}
    assert json.loads(serialize(Pong(id="7"))) == {"type": "pong", "id": "7"}
    started = Started(sample_rate=8000, encoding="pcm16", voice="makima", language="English")
    assert "warning" not in json.loads(serialize(started))


def test_audio_end_has_the_field_names_of_the_page() -> None:
    assert json.loads(serialize(AudioEnd(sample_rate=24000))) == {
        "type": "audio_end",
        "sample_rate": 24000,
        "format": "pcm_s16le",
        "channels": 1,
    }


def test_everything_else_is_camel_case() -> None:
    error = ErrorMessage(
        code="CANCELLED", message="m", recoverable=True, utterance_id="u", audio_ms=80, played_ms=0
    )
    assert json.loads(serialize(error)) == {
        "type": "error",
        "code": "CANCELLED",
        "message": "m",
        "recoverable": True,
        "utteranceId": "u",
        "audioMs": 80,
        "playedMs": 0,
    }


def test_milliseconds_are_integers_and_ratios_floats() -> None:
    complete = Complete(
        utterance_id="u",
        duration_ms=5,
        audio_length_ms=80,
        characters_processed=3,
        text_length=3,
        total_chunks=1,
        ttfa_ms=2,
        queue_ms=0,
        rtf=1,
        finish_reason="stop",
    )
    fields = json.loads(serialize(complete))
    assert all(type(value) is int for name, value in fields.items() if name.endswith("Ms"))
    assert type(fields["rtf"]) is float
    chunk = AudioChunkMessage(
        utterance_id="u", data="", sequence_number=1, is_final=True, timestamp_ms=80, timestamp=0.08
    )
    assert json.loads(serialize(chunk))["timestamp"] == 0.08
