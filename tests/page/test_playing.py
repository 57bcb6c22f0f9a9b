"""Playback: samples are played as they were sent, and a cancel stops them."""

import re
import wave

import numpy as np
from playwright.sync_api import expect

from tests.conftest import Serve
from tests.page.speak_page import Samples, SpeakPage, fetch_samples
from tests.transport.processes import ServerProcess

TEXT = "Heard, and once."

# Every caption that is shown, as [before the word, the word, after it].
_WATCH_CAPTIONS = """
() => {
  window.captions = [];
  const caption = document.getElementById("caption");
  const note = () => captions.push([...caption.children].map((child) => child.textContent));
  new MutationObserver(note).observe(caption, { subtree: true, childList: true, characterData: true });
}
"""
FADE_SAMPLES = 240

# Scheduled chunks without worklets: samples with their start frame; the number of chunks that have not ended.
_WATCH_SCHEDULING = """
delete window.AudioWorkletNode;
window.scheduled = [];
window.unended = 0;
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  const samples = Array.from(this.buffer.getChannelData(0));
  scheduled.push({ frame: when * this.context.sampleRate, samples });
  unended += 1;
  this.addEventListener("ended", () => (unended -= 1));
  start.call(this, when);
};
"""

# Another program on the same client: it plays one text to its end, and cancels another that has arrived.
_HEAR_AND_CUT_OFF = """
async (url) => {
  const { SpeechClient, SpeechCancelled } = await import("/static/client/index.js");
  const client = new SpeechClient({ url });
  const heard = client.speak("Hello.");
  const { audioLengthMs } = await heard.done;
  const text = "Several words that arrive at once. And more of them.";
  const cut = client.speak(text);
  await new Promise((resolve) => client.subscribe(() => {
    if (cut.complete !== null && cut.playedMs > 600) resolve();
  }));
  client.cancel();
  const failure = await cut.done.catch((failure) => failure);
  const { playedMs, textSpoken, textRemaining } = failure;
  const wasCancelled = failure instanceof SpeechCancelled;
  client.close();
  return { unheardMs: audioLengthMs - heard.playedMs, wasCancelled, playedMs, textSpoken, textRemaining };
}
"""


def test_played_samples_equal_the_sent_samples(ready_page: SpeakPage, server: ServerProcess) -> None:
    ready_page.speak(TEXT)
    ready_page.expect_status("Spoken")
    voice = next(message["voice"] for message in ready_page.sent if message["type"] == "speak")
    sent = fetch_samples(server, TEXT, voice=voice)
    np.testing.assert_array_equal(ready_page.heard(), sent)
    assert ready_page.text_of("figure-underruns") == "0"


def test_played_audio_of_the_embedded_engine_equals_the_sent_audio(
    speak_page: SpeakPage, serve: Serve
) -> None:
    speak_page.open(serve(engine="preview"))
    speak_page.expect_text("stand-in", "no cloning, English only")
    speak_page.speak("Good morning.")
    speak_page.expect_status("Spoken")
    heard, received = speak_page.heard(), speak_page.received()
    assert received.size > 12_000
    # When a busy machine delays the engine, the page plays silence, and no sample is lost.
    np.testing.assert_array_equal(heard[heard != 0], received[received != 0])


def test_the_word_that_is_played_is_highlighted_within_its_sentence(ready_page: SpeakPage) -> None:
    first, second = "A **quiet** harbour in the morning.", "\U0001d4b3 marks it: 三 ships."
    ready_page.page.evaluate(_WATCH_CAPTIONS)
    ready_page.speak(f"{first} <think>Not spoken.</think> {second}")
    ready_page.expect_status("Spoken")
    shown = [caption for caption in ready_page.page.evaluate("() => captions") if any(caption)]
    highlighted = [word for i, (_, word, _) in enumerate(shown) if word and shown[i - 1][1] != word]
    words = re.findall(r"\w+", f"{first} {second}")
    assert highlighted == [word for word in words if word in highlighted]
    assert len(highlighted) > len(words) // 3  # a busy machine skips some
    assert all("".join(caption) in first or "".join(caption) in second for caption in shown)


def test_utterances_follow_each_other_without_a_gap(ready_page: SpeakPage, server: ServerProcess) -> None:
    ready_page.speak("The first of two.")
    ready_page.speak("And the second one.")
    ready_page.expect_status("more waiting")
    ready_page.expect_status("Spoken")
    ready_page.expect_silence()
    first, second = (fetch_samples(server, text) for text in ("The first of two.", "And the second one."))
    heard = ready_page.heard()
    np.testing.assert_array_equal(heard[: first.size], first)
    # A sine begins with a zero, which fetch_samples has trimmed.
    np.testing.assert_array_equal(np.trim_zeros(heard[first.size :]), second)
    assert heard.size - first.size - second.size < 1920


def test_a_cancel_stops_playback_and_the_next_text_is_spoken(
    ready_page: SpeakPage, server: ServerProcess
) -> None:
    ready_page.speak("{endless}")
    ready_page.expect_status("Speaking.")
    ready_page.page.keyboard.press("Escape")
    ready_page.expect_status("Cancelled after")
    ready_page.expect_silence()
    played = ready_page.heard()
    _assert_fades(played)
    cancel = next(message for message in ready_page.sent if message["type"] == "cancel")
    assert 0 < cancel["playedMs"] <= played.size / 24

    ready_page.speak(TEXT)
    ready_page.expect_status("Spoken")
    after = np.trim_zeros(ready_page.heard()[played.size :])
    np.testing.assert_array_equal(after, fetch_samples(server, TEXT))


def _assert_fades(played: Samples) -> None:
    """A tone of constant level fades to zero within 10 ms, without a click."""
    level = np.abs(played[:-FADE_SAMPLES]).max()
    steepest = np.abs(np.diff(played[:-FADE_SAMPLES])).max()
    assert np.abs(played[-FADE_SAMPLES:]).max() <= level
    assert np.abs(played[-FADE_SAMPLES // 4 :]).max() < level / 4
    assert np.abs(np.diff(played)).max() <= steepest * 1.2


def test_a_cancel_includes_queued_texts(ready_page: SpeakPage) -> None:
    ready_page.speak("{stall}")
    ready_page.speak("Never heard.")
    ready_page.expect_status("Waiting for the first sound … 1 more waiting.")
    ready_page.element("cancel").click()
    ready_page.expect_status("Cancelled.")
    expect(ready_page.element("cancel")).to_be_disabled()
    expect(ready_page.element("error")).to_be_hidden()
    ready_page.speak("Heard.")
    ready_page.expect_status("Spoken")


def test_a_cancel_after_the_last_audio_reports_the_heard_text(
    ready_page: SpeakPage, server: ServerProcess
) -> None:
    outcome = ready_page.page.evaluate(_HEAR_AND_CUT_OFF, f"{server.url}/api/v1/speak")
    assert outcome["unheardMs"] == 0
    assert outcome["wasCancelled"]
    assert 600 < outcome["playedMs"] < 1800
    assert outcome["textSpoken"].startswith("Several")
    assert (
        outcome["textSpoken"] + outcome["textRemaining"]
        == "Several words that arrive at once. And more of them."
    )


def test_audio_of_a_slow_engine_counts_underruns(ready_page: SpeakPage) -> None:
    ready_page.speak("Hello {slow 2} there, slowly.")
    ready_page.expect_status("Spoken")
    assert int(ready_page.text_of("figure-underruns")) >= 1
    assert float(ready_page.text_of("figure-rtf")) > 0


def test_the_three_times_to_first_audio_are_in_order(ready_page: SpeakPage) -> None:
    ready_page.speak("{slow 1} Hello.")
    ready_page.expect_status("Spoken")
    server, wire, audible = (
        int(ready_page.text_of(f"figure-{name}").removesuffix(" ms"))
        for name in ("server", "wire", "audible")
    )
    assert 80 <= server <= wire <= audible


def test_without_worklets_chunks_are_scheduled_without_a_gap(
    speak_page: SpeakPage, server: ServerProcess
) -> None:
    speak_page.page.add_init_script(_WATCH_SCHEDULING)
    speak_page.open(server)
    speak_page.expect_status("Ready.")
    speak_page.speak(TEXT)
    expect(speak_page.page.get_by_text("Simple playback.")).to_be_visible()
    speak_page.expect_status("Spoken")
    chunks = speak_page.page.evaluate("() => scheduled")
    ends = [round(chunk["frame"]) + len(chunk["samples"]) for chunk in chunks]
    assert [round(chunk["frame"]) for chunk in chunks[1:]] == ends[:-1]
    played = np.concatenate([chunk["samples"] for chunk in chunks]) * 32768
    np.testing.assert_array_equal(np.trim_zeros(played), fetch_samples(server, TEXT))


def test_without_worklets_a_cancel_stops_playback(speak_page: SpeakPage, server: ServerProcess) -> None:
    speak_page.page.add_init_script(_WATCH_SCHEDULING)
    speak_page.open(server)
    speak_page.expect_status("Ready.")
    speak_page.speak("{endless}")
    speak_page.expect_status("Speaking.")
    speak_page.page.keyboard.press("Escape")
    speak_page.expect_status("Cancelled after")
    # Some 20 s of an endless text are scheduled; none of it may be played any more.
    speak_page.page.wait_for_function("() => unended === 0", timeout=5_000)
    speak_page.speak("Hello again.")
    speak_page.expect_status("Spoken")


def test_the_last_utterance_can_be_saved_as_a_wav_file(ready_page: SpeakPage, server: ServerProcess) -> None:
    ready_page.speak(TEXT)
    ready_page.expect_status("Spoken")
    with ready_page.page.expect_download() as download:
        ready_page.element("download").click()
    with wave.open(str(download.value.path())) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        kept = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
    np.testing.assert_array_equal(np.trim_zeros(kept), fetch_samples(server, TEXT))
