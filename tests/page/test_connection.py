"""The page without a connection: reconnects, refusals, loading, interrupts."""

import signal

import pytest
from playwright.sync_api import expect

from tests.conftest import Serve
from tests.page.speak_page import SpeakPage
from tests.page.stand_in_server import StandInServer
from tests.transport.processes import ServerProcess

_RETRY_DELAYS = """
async ([attempts, atLeastMs, chance]) => {
  const { retryDelayMs } = await import("/static/client/connection.js");
  return attempts.map((attempt) => retryDelayMs(attempt, atLeastMs, chance));
}
"""

# Speaks between the service's close and the browser's close event, which needs fake sockets for its timing.
# Returns the texts of every connection, and the states in order.
_SPEAK_WHILE_CLOSING = """
async (code) => {
  const { SpeechConnection } = await import("/static/client/connection.js");
  const sockets = [];
  globalThis.WebSocket = class FakeSocket {
    static OPEN = 1;
    readyState = 0;
    texts = [];
    constructor() { sockets.push(this); }
    open() { this.readyState = FakeSocket.OPEN; this.onopen(); }
    startClosing() { this.readyState = 2; }
    send(message) {
      const { type, text } = JSON.parse(message);
      if (this.readyState === FakeSocket.OPEN && type === "speak") this.texts.push(text);
    }
  };
  const states = [];
  const onEvent = (event) => { if (event.type === "state") states.push(event.state); };
  const connection = new SpeechConnection({ url: "ws://nowhere", start: {}, onEvent });
  connection.connect();
  sockets[0].open();
  sockets[0].startClosing();
  connection.speak({ utteranceId: "a", text: "Not lost." });
  sockets[0].onclose({ code });
  sockets[1]?.open();
  return { texts: sockets.map((socket) => socket.texts), states };
}
"""


@pytest.fixture
def stand_in(speak_page: SpeakPage, server: ServerProcess) -> StandInServer:
    """The fake service behind the page's WebSocket; everything else comes from the real service."""
    stand_in = StandInServer(speak_page.page)
    speak_page.open(server)
    return stand_in


def test_the_page_reconnects_when_the_service_is_reachable_again(speak_page: SpeakPage, serve: Serve) -> None:
    speak_page.expected = ["ERR_CONNECTION_REFUSED", "WebSocket connection"]
    server = serve()
    speak_page.open(server)
    speak_page.expect_status("Ready.")
    speak_page.speak("Hello {stall}")
    speak_page.expect_status("Speaking.")
    server.signal(signal.SIGKILL)
    speak_page.expect_text("connection-notice", "The connection to the service was lost.")
    speak_page.expect_text("error", "What had arrived is played to its end.")
    speak_page.expect_status("Broke off after 0.")
    server.wait()
    serve(port=server.port)
    expect(speak_page.element("connection-notice")).to_be_hidden()
    speak_page.speak("Here I am again.")
    speak_page.expect_status("Spoken")
    expect(speak_page.element("error")).to_be_hidden()


def test_an_idle_page_stays_disconnected_until_the_next_text(speak_page: SpeakPage, serve: Serve) -> None:
    speak_page.open(serve(idle_timeout_s=0.5))
    speak_page.expect_status("Resting.")
    expect(speak_page.element("connection-notice")).to_be_hidden()
    speak_page.speak("Good morning.")
    speak_page.expect_status("Spoken")
    expect(speak_page.element("service")).to_have_attribute("data-state", "resting")


@pytest.mark.parametrize("code", [1000, 4408])
def test_a_text_during_a_close_is_sent_over_the_next_connection(ready_page: SpeakPage, code: int) -> None:
    outcome = ready_page.page.evaluate(_SPEAK_WHILE_CLOSING, code)
    assert outcome == {"texts": [[], ["Not lost."]], "states": ["connecting", "connecting"]}


def test_loading_is_shown_and_text_is_queued_until_the_model_is_ready(
    speak_page: SpeakPage, stand_in: StandInServer
) -> None:
    assert stand_in.hear("start")["events"] is True
    stand_in.say("loading", stage="weights", progress=0.25)
    speak_page.expect_status("Loading the model: weights")
    expect(speak_page.element("loading")).to_have_js_property("value", 0.25)
    speak_page.speak("Spoken later.")
    speak_page.expect_status("Loading the model: weights Your text is kept")
    assert stand_in.hear("speak")["text"] == "Spoken later."
    stand_in.say("loading", stage="warming up", progress=0.9)
    speak_page.expect_status("Loading the model: warming up Your text is kept")
    stand_in.say_ready()
    speak_page.expect_status("Waiting for the first sound")
    expect(speak_page.element("loading")).to_be_hidden()


def test_an_engine_that_cannot_clone_is_labelled_as_a_preview(
    speak_page: SpeakPage, stand_in: StandInServer
) -> None:
    stand_in.say_ready(cloning=False)
    speak_page.expect_text("stand-in", "no cloning, English only")
    speak_page.expect_text("stand-in", "Qwen3-TTS")
    speak_page.element("add-voice").click()
    speak_page.expect_text("voice-stand-in", "can be used once the service runs Qwen3-TTS")


def test_a_refused_text_is_shown_and_not_retried(speak_page: SpeakPage, stand_in: StandInServer) -> None:
    stand_in.say("error", code="UNAUTHORIZED", message="A token is needed.", recoverable=False)
    stand_in.close(4401)
    speak_page.expect_text("error", "A token is needed.")
    speak_page.expect_status("Not connected.")
    assert stand_in.connections == 1
    speak_page.element("try-now").click()
    stand_in.say_ready()
    speak_page.expect_status("Ready.")
    assert stand_in.connections == 2


def test_the_page_waits_as_long_as_a_full_service_asks(
    speak_page: SpeakPage, stand_in: StandInServer
) -> None:
    stand_in.say("error", code="RATE_LIMITED", message="No room.", recoverable=True, retryAfterMs=60_000)
    stand_in.close(1013)
    speak_page.expect_text("connection-notice", "no room for another listener")
    speak_page.expect_text("connection-retry", "Trying again in 60 s.")


def test_audio_that_arrives_after_a_cancel_is_not_played(
    speak_page: SpeakPage, stand_in: StandInServer
) -> None:
    stand_in.say_ready()
    speak_page.speak("Hello.")
    utterance = stand_in.hear("speak")["utteranceId"]
    started = {"sampleRate": 24000, "encoding": "pcm16", "channels": 1, "queueMs": 0}
    stand_in.say("speaking", utteranceId=utterance, **started)
    speak_page.page.keyboard.press("Escape")
    stand_in.hear("cancel")
    stand_in.send_audio(b"\x00\x40" * 24_000)
    stand_in.say("error", code="CANCELLED", message="Cancelled.", recoverable=True, utteranceId=utterance)
    speak_page.expect_status("Cancelled.")
    speak_page.expect_silence()
    assert speak_page.heard().size == 0
    expect(speak_page.element("error")).to_be_hidden()


def ten_seconds_of_hello(speak_page: SpeakPage, stand_in: StandInServer) -> str:
    """All audio has arrived and is playing; returns the id of the utterance."""
    stand_in.say_ready()
    speak_page.speak("Hello.")
    utterance: str = stand_in.hear("speak")["utteranceId"]
    started = {"sampleRate": 24000, "encoding": "pcm16", "channels": 1, "queueMs": 0}
    stand_in.say("speaking", utteranceId=utterance, **started)
    stand_in.send_audio(b"\x00\x40" * 240_000)
    speak_page.expect_status("Speaking.")
    return utterance


def test_an_interrupt_at_the_service_stops_playback(speak_page: SpeakPage, stand_in: StandInServer) -> None:
    utterance = ten_seconds_of_hello(speak_page, stand_in)
    stand_in.say("error", code="CANCELLED", message="Cancelled.", recoverable=True, utteranceId=utterance)
    speak_page.expect_status("Cancelled after")
    speak_page.expect_silence()
    assert speak_page.heard().size < 120_000


def test_an_interrupt_discards_audio_of_complete_utterances(
    speak_page: SpeakPage, stand_in: StandInServer
) -> None:
    utterance = ten_seconds_of_hello(speak_page, stand_in)
    figures = {"durationMs": 9, "audioLengthMs": 10_000, "charactersProcessed": 6, "textLength": 6}
    figures |= {"totalChunks": 1, "ttfaMs": 1, "queueMs": 0, "rtf": 0}
    stand_in.say("complete", utteranceId=utterance, finishReason="stop", **figures)
    stand_in.say("interrupted")
    speak_page.expect_status("Cancelled after")
    speak_page.expect_silence()
    assert speak_page.heard().size < 120_000


def test_reconnect_waits_double_up_to_a_bound_and_respect_retry_after(ready_page: SpeakPage) -> None:
    attempts = [0, 1, 2, 3, 20]
    assert ready_page.page.evaluate(_RETRY_DELAYS, [attempts, 0, 0.5]) == [500, 1000, 2000, 4000, 15_000]
    assert ready_page.page.evaluate(_RETRY_DELAYS, [[0, 20], 0, 0]) == [400, 12_000]
    assert ready_page.page.evaluate(_RETRY_DELAYS, [[0, 20], 0, 1]) == [600, 18_000]
    assert ready_page.page.evaluate(_RETRY_DELAYS, [[0, 20], 30_000, 0.5]) == [30_000, 30_000]


def test_a_second_client_sees_that_the_service_is_full(speak_page: SpeakPage, serve: Serve) -> None:
    server = serve(max_connections=1)
    speak_page.open(server)
    speak_page.expect_status("Ready.")
    second = SpeakPage(speak_page.page.context.new_page())
    second.open(server)
    second.expect_text("connection-notice", "The service has no room for another listener.")
    second.expect_text("error", "Try again in")
    assert second.complaints == []
