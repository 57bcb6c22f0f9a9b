"""livekit's own OpenAI plugin, in both of its stream formats, and our plugin for livekit."""

import pytest

from tests.clients.conftest import RunClient, Seen
from tests.transport.processes import ServerProcess

pytestmark = pytest.mark.process

# 60 ms for each character, in whole frames of 80 ms.
TEXT_MS, GO_ON_MS, TWO_SENTENCES_MS = 1120, 400, 2320
# livekit marks the end of audio that it did not time with 10 ms of silence; its decoders, which resample,
# keep a last fragment, and MP3 and AAC have blocks of their own length.
MARK_MS = 10
DECODED_MS = 60


@pytest.fixture(scope="module")
def seen(run_client: RunClient, service: ServerProcess, hasty_service: ServerProcess) -> Seen:
    return run_client("with_livekit", service, hasty_service)


@pytest.mark.parametrize("form", ["audio", "sse"])
@pytest.mark.parametrize("name", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
def test_livekits_openai_plugin_receives_every_format_in_full(seen: Seen, form: str, name: str) -> None:
    heard = seen[f"openai {form}"][name]
    assert heard["rate_hz"] == 24_000
    assert heard["audio_ms"] == pytest.approx(TEXT_MS, abs=DECODED_MS)


@pytest.mark.parametrize("speaker", ["openai audio", "openai sse", "makima"])
def test_closing_a_stream_frees_the_slot_and_the_next_text_is_spoken(seen: Seen, speaker: str) -> None:
    closed = seen[f"{speaker} closed"]
    assert closed["speaking"] == 1
    assert closed["silenced"]
    assert closed["then"]["audio_ms"] == GO_ON_MS + MARK_MS


def test_livekits_openai_plugin_reports_an_unknown_voice(seen: Seen) -> None:
    failure = seen["openai unknown voice"]
    assert (failure["kind"], failure["status"], failure["retryable"]) == ("APIStatusError", 404, False)


@pytest.mark.parametrize(("speaking", "rate_hz"), [("speaks", 24_000), ("speaks at 8000 Hz", 8000)])
def test_the_plugin_speaks_a_whole_text(seen: Seen, speaking: str, rate_hz: int) -> None:
    assert seen[f"makima {speaking}"] == {"audio_ms": TEXT_MS + MARK_MS, "rate_hz": rate_hz}


def test_a_turn_is_spoken_while_it_is_written(seen: Seen) -> None:
    assert seen["makima written"] == {"audio_ms": TWO_SENTENCES_MS, "rate_hz": 24_000, "final": True}


def test_what_is_written_after_a_long_pause_is_spoken_too(seen: Seen) -> None:
    pausing = seen["makima pausing"]
    assert pausing["audio_ms"] == pytest.approx(TWO_SENTENCES_MS, abs=MARK_MS + 4 * 80)
    assert pausing["audio_ms"] > TEXT_MS + 600


def test_an_interrupted_turn_keeps_the_connection_for_the_next_turn(seen: Seen) -> None:
    interrupted = seen["makima interrupted"]
    assert interrupted["silenced"]
    assert interrupted["then"]["audio_ms"] == GO_ON_MS
    assert (interrupted["connections"], interrupted["reused"]) == (1, True)


def test_the_connection_is_opened_before_the_first_turn(seen: Seen) -> None:
    assert seen["makima prewarmed"] == {
        "heard": {"audio_ms": GO_ON_MS, "rate_hz": 24_000},
        "reused": [True],
    }


def test_a_turn_without_words_is_silent(seen: Seen) -> None:
    assert seen["makima nothing"] == {"events": []}


@pytest.mark.parametrize("speaker", ["openai audio", "openai sse", "makima"])
def test_a_session_survives_turns_without_words_and_the_next_turn_is_spoken(seen: Seen, speaker: str) -> None:
    """livekit closes a session after four failing turns."""
    turns = seen[f"{speaker} wordless"]
    assert turns["turns_s"] == pytest.approx([0.2] * 6 + [GO_ON_MS / 1000], abs=2 * MARK_MS / 1000 + 0.001)
    assert (turns["errors"], turns["open"]) == ([], True)


@pytest.mark.parametrize(
    ("case", "kind", "status", "retryable"),
    [
        ("unknown voice", "APIStatusError", 404, False),
        ("wrong rate", "APIStatusError", 400, False),
        ("failing", "APIStatusError", 503, True),
        ("nobody there", "APIConnectionError", None, True),
    ],
)
def test_failures_are_livekits_own(
    seen: Seen, case: str, kind: str, status: int | None, retryable: bool
) -> None:
    failure = seen[f"makima {case}"]
    assert (failure["kind"], failure["status"], failure["retryable"]) == (kind, status, retryable)
