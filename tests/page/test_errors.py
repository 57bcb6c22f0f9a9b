"""Error messages of the page, with remedies."""

from collections.abc import Iterator

from playwright.sync_api import Route, expect

from makima_tts.errors import TtsError
from makima_tts.text import clean
from tests.conftest import Serve
from tests.page.speak_page import SpeakPage
from tests.transport.processes import ServerProcess


def _codes(error: type[TtsError]) -> Iterator[str]:
    yield error.code
    for kind in error.__subclasses__():
        yield from _codes(kind)


def test_every_error_code_of_the_service_has_a_message(ready_page: SpeakPage) -> None:
    words = ready_page.page.evaluate("async () => Object.keys((await import('/static/advice.js')).WORDS)")
    assert set(_codes(TtsError)) <= set(words)


def test_a_full_queue_shows_when_to_retry(speak_page: SpeakPage, serve: Serve) -> None:
    speak_page.open(serve(max_queued_utterances=1))
    speak_page.expect_status("Ready.")
    speak_page.speak("{stall}")
    speak_page.speak("This one waits.")
    speak_page.speak("And this one is too much.")
    for words in ("The service is busy", "RATE_LIMITED", "Try again in", "You can try again now."):
        speak_page.expect_text("error", words)


def test_a_removed_voice_is_a_clear_error(speak_page: SpeakPage, server: ServerProcess) -> None:
    def list_ghost(route: Route) -> None:
        ghost = {"id": "ghost", "name": "Ghost", "language": "English", "description": "", "isDefault": True}
        route.fulfill(json={"voices": [{**ghost, "available": True, "reason": None}]})

    speak_page.page.route("**/api/v1/voices", list_ghost)
    speak_page.open(server)
    expect(speak_page.element("voice")).to_have_value("ghost")
    speak_page.speak("Boo.")
    speak_page.expect_text("error", "This voice cannot be used")
    speak_page.expect_text("error", "VOICE_NOT_FOUND")
    speak_page.expect_status("Not spoken.")


def test_audio_before_an_error_is_played(ready_page: SpeakPage) -> None:
    ready_page.speak("Hello there. {fail}")
    ready_page.expect_text("error", "Speaking failed")
    ready_page.expect_status("Broke off after 0.")
    assert ready_page.heard().size > 12_000


def test_a_browser_without_audio_shows_an_error_and_sends_nothing(
    speak_page: SpeakPage, server: ServerProcess
) -> None:
    speak_page.page.add_init_script("window.AudioContext = class { constructor() { throw new Error(); } }")
    speak_page.open(server)
    speak_page.expect_status("Ready.")
    speak_page.speak("Hello.")
    speak_page.expect_text("error", "This page cannot play sound")
    assert [message["type"] for message in speak_page.sent] == ["start"]


def test_the_next_text_clears_an_error(ready_page: SpeakPage) -> None:
    ready_page.speak("{foreign}")
    ready_page.expect_text("error", "This text cannot be spoken")
    ready_page.speak("Hello.")
    expect(ready_page.element("error")).to_be_hidden()


def test_a_text_over_the_limit_is_not_sent(ready_page: SpeakPage) -> None:
    ready_page.speak("a" * 1003)
    expect(ready_page.element("count")).to_have_text("1,003 / 1,000, 3 too many")
    expect(ready_page.element("speak")).to_be_disabled()
    expect(ready_page.element("text")).to_have_attribute("aria-invalid", "true")
    assert [message["type"] for message in ready_page.sent] == ["start"]


def test_characters_are_counted_as_the_service_counts_them(ready_page: SpeakPage) -> None:
    texts = [
        "",
        "  spaced\x85\u3000",
        "e\u0301",
        "\U0001f469\u200d\U0001f467",
        "a\x00b\x07c\x85d\x9fe",
        "two\nlines\t",
        "\u200bzero\ufeff",
        "\u6f22\u5b57",
    ]
    count = "async (texts) => texts.map((await import('/static/composer.js')).countChars)"
    assert ready_page.page.evaluate(count, texts) == [len(clean(text)) for text in texts]
