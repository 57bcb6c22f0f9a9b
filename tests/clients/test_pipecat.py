"""pipecat's own OpenAI service, and our service for pipecat, each in a real pipeline."""

import pytest

from tests.clients.conftest import RunClient, Seen
from tests.sentences import WORDLESS
from tests.transport.processes import ServerProcess

pytestmark = pytest.mark.process

# 60 ms for each character, in whole frames of 80 ms.
TEXT_MS, GO_ON_MS, TWO_SENTENCES_MS, ONE_MS, TWO_MS = 1120, 400, 2320, 240, 240
SILENT_MS = 200


@pytest.fixture(scope="module")
def seen(run_client: RunClient, service: ServerProcess, hasty_service: ServerProcess) -> Seen:
    return run_client("with_pipecat", service, hasty_service)


@pytest.mark.parametrize("whose", ["openai", "makima"])
def test_a_text_is_spoken_and_recorded(seen: Seen, whose: str) -> None:
    assert seen[f"{whose} speaks"] == {
        "audio_ms": TEXT_MS,
        "started": 1,
        "stopped": 1,
        "text": ["The lamps are lit."],
        "errors": [],
    }


@pytest.mark.parametrize("whose", ["openai", "makima"])
def test_an_interruption_in_mid_speech_frees_the_slot_and_the_next_turn_is_spoken(
    seen: Seen, whose: str
) -> None:
    interrupted = seen[f"{whose} interrupted"]
    assert interrupted["speaking"] == 1
    assert interrupted["silenced"]
    # the interrupted text is in no record, and is not spoken after the interruption
    assert interrupted["text"] == ["Go on."]
    assert interrupted["then_ms"] == GO_ON_MS
    assert interrupted["errors"] == []


def test_an_interruption_leaves_our_connection_open(seen: Seen) -> None:
    assert seen["makima interrupted"]["connections"] == 1


def test_a_turn_is_spoken_while_it_is_written(seen: Seen) -> None:
    written = seen["makima written"]
    assert written["audio_ms"] == TWO_SENTENCES_MS
    assert written["text"] == ["The lamps are lit.", "The doors are open."]
    assert (written["started"], written["stopped"]) == (1, 1)


def test_what_is_written_after_a_long_pause_is_spoken_in_the_same_turn(seen: Seen) -> None:
    pausing = seen["makima pausing"]
    assert pausing["audio_ms"] > TEXT_MS + 600
    # pipecat records the word before the pause at its time or at the end of the turn
    assert sorted(pausing["text"]) == ["And", "The lamps are lit.", "the doors are open."]
    assert (pausing["started"], pausing["stopped"], pausing["errors"]) == (1, 1, [])


def test_a_failure_affects_its_turn_only(seen: Seen) -> None:
    failing = seen["makima failing"]
    assert failing["audio_ms"] == ONE_MS + SILENT_MS + TWO_MS
    assert (failing["started"], failing["stopped"]) == (3, 3)
    [[message, category]] = failing["errors"]
    assert (message.split(":")[0], category) == ("SYNTHESIS_ERROR", "server")


@pytest.mark.parametrize("whose", ["openai", "makima"])
def test_turns_without_words_are_silent_and_the_next_turn_is_spoken(seen: Seen, whose: str) -> None:
    """pipecat gives up a service after three turns without audio; blank turns do not reach it."""
    turns = seen[f"{whose} wordless"]
    spoken = [text for text in WORDLESS if text.strip()]
    assert turns["audio_ms"] == len(spoken) * SILENT_MS + GO_ON_MS
    assert turns["text"] == [*spoken, "Go on."]
    assert (turns["errors"], turns["usable"]) == ([], True)


def test_failing_turns_do_not_mute_our_service(seen: Seen) -> None:
    turns = seen["makima failing turns"]
    assert (turns["audio_ms"], turns["text"][-1], turns["usable"]) == (GO_ON_MS, "Go on.", True)
    assert sum(message.startswith("SYNTHESIS_ERROR") for message, _ in turns["errors"]) == 5


def test_an_unknown_voice_is_an_invalid_setting(seen: Seen) -> None:
    [[message, category]] = seen["makima unknown voice"]["errors"]
    assert message.startswith("VOICE_NOT_FOUND: There is no voice nobody here")
    assert category == "invalid_request"


def test_an_unreachable_service_is_a_connectivity_error_and_turns_end(seen: Seen) -> None:
    absent = seen["makima nobody there"]
    assert (absent["audio_ms"], absent["stopped"]) == (0, 2)
    assert "connectivity" in {category for _, category in absent["errors"]}
