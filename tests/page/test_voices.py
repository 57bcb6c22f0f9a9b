"""Adding, selecting and removing a voice."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.page.clips import write_clip
from tests.page.speak_page import SpeakPage

TRANSCRIPT = "These are the words that are said in this clip, every one of them."

# The permission prompt stays open until the test grants it; `tracks` holds the granted tracks.
_ASK_FOR_THE_MICROPHONE = """
() => {
  const devices = navigator.mediaDevices;
  const open = devices.getUserMedia.bind(devices);
  globalThis.microphone = { asked: 0, tracks: [] };
  const granted = new Promise((resolve) => { microphone.grant = resolve; });
  devices.getUserMedia = async (constraints) => {
    microphone.asked += 1;
    await granted;
    const stream = await open(constraints);
    microphone.tracks.push(...stream.getTracks());
    return stream;
  };
}
"""
_IS_OFF = """
() => microphone.tracks.length > 0 && microphone.tracks.every((track) => track.readyState === "ended")
"""
_BREAK_WORKLETS = """
() => { AudioWorklet.prototype.addModule = () => Promise.reject(new Error("no worklet")); }
"""


def fill_in(page: SpeakPage, name: str) -> None:
    page.element("transcript").fill(TRANSCRIPT)
    page.element("voice-name").fill(name)
    page.element("consent").check()


@pytest.fixture
def dialog(ready_page: SpeakPage) -> SpeakPage:
    """The page with the open dialog for a new voice."""
    ready_page.element("add-voice").click()
    return ready_page


@pytest.fixture
def asking(dialog: SpeakPage) -> SpeakPage:
    """The dialog in a browser with a permission prompt for the microphone."""
    dialog.page.evaluate(_ASK_FOR_THE_MICROPHONE)
    return dialog


def test_an_uploaded_voice_has_a_report_is_selected_and_speaks(dialog: SpeakPage, tmp_path: Path) -> None:
    dialog.element("clip-file").set_input_files(write_clip(tmp_path / "anna.wav", 6))
    dialog.expect_text("clip-line", "anna.wav, 6.0 s.")
    fill_in(dialog, "Anna")
    dialog.element("voice-save").click()
    for words in ("Anna can speak now.", "6.0 s, of which", "24,000 Hz", "dBFS"):
        dialog.expect_text("report", words)
    expect(dialog.element("voice")).to_have_value("anna")
    dialog.element("voice-close").click()
    dialog.speak("Hello.")
    dialog.expect_status("Spoken")
    assert dialog.sent[-1]["voice"] == "anna"


def test_a_recorded_clip_is_sent_unchanged(dialog: SpeakPage) -> None:
    dialog.element("record").click()
    dialog.expect_text("record-time", "4.")
    dialog.element("record").click()
    dialog.expect_text("clip-line", "recording.wav, 4.")
    expect(dialog.element("clip-preview")).to_be_visible()
    dialog.element("suggest").click()
    expect(dialog.element("transcript")).to_have_value(re.compile("heron"))
    dialog.element("voice-name").fill("Me")
    dialog.element("consent").check()
    dialog.element("voice-save").click()
    dialog.expect_text("report", "Me can speak now.")


def test_two_clicks_during_the_permission_prompt_start_one_recording(asking: SpeakPage) -> None:
    asking.element("record").click()
    asking.element("record").dispatch_event("click")
    asking.page.evaluate("() => microphone.grant()")
    expect(asking.element("record")).to_have_text("Stop recording")
    expect(asking.element("record")).to_be_focused()
    assert asking.page.evaluate("() => microphone.asked") == 1
    asking.element("record").click()
    asking.page.wait_for_function(_IS_OFF)


def test_a_dialog_that_closes_during_the_permission_prompt_records_nothing(asking: SpeakPage) -> None:
    asking.element("record").click()
    asking.element("voice-close").click()
    asking.page.evaluate("() => microphone.grant()")
    asking.page.wait_for_function(_IS_OFF)
    asking.element("add-voice").click()
    expect(asking.element("record")).to_have_text("Record")


def test_a_recording_that_fails_to_start_releases_the_microphone(asking: SpeakPage) -> None:
    asking.page.evaluate(_BREAK_WORKLETS)
    asking.page.evaluate("() => microphone.grant()")
    asking.element("record").click()
    asking.expect_text("voice-error", "NO_MICROPHONE")
    asking.page.wait_for_function(_IS_OFF)


def test_a_file_format_that_the_service_cannot_read_is_sent_as_wav(dialog: SpeakPage, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "voice.wav", 4).rename(tmp_path / "voice.m4a")
    dialog.element("clip-file").set_input_files(clip)
    dialog.expect_text("clip-line", "voice.wav, 4.0 s.")


def test_a_file_without_audio_is_a_clear_error(dialog: SpeakPage, tmp_path: Path) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("no sound at all")
    dialog.element("clip-file").set_input_files(text)
    dialog.expect_text("voice-error", "This browser cannot read that file")


def test_a_refusal_of_the_service_is_a_clear_error(dialog: SpeakPage, tmp_path: Path) -> None:
    dialog.expected = ["422"]
    dialog.element("clip-file").set_input_files(write_clip(tmp_path / "short.wav", 1))
    dialog.expect_text("clip-line", "Too short")
    fill_in(dialog, "Shorty")
    dialog.element("voice-save").click()
    dialog.expect_text("voice-error", "This recording cannot be used")
    dialog.expect_text("voice-error", "INVALID_AUDIO")


def test_without_consent_or_clip_nothing_is_sent(dialog: SpeakPage, tmp_path: Path) -> None:
    posts: list[str] = []
    dialog.page.on("request", lambda request: posts.append(request.method))
    fill_in(dialog, "Nobody")
    dialog.element("voice-save").click()
    expect(dialog.element("clip-line")).to_have_text("Record a clip or choose a file first.")
    dialog.element("clip-file").set_input_files(write_clip(tmp_path / "anna.wav", 5))
    dialog.expect_text("clip-line", "5.0 s")
    dialog.element("consent").uncheck()
    dialog.element("voice-save").click()
    expect(dialog.element("consent")).to_be_focused()
    assert "POST" not in posts


def test_an_added_voice_can_be_removed(dialog: SpeakPage, tmp_path: Path) -> None:
    dialog.element("clip-file").set_input_files(write_clip(tmp_path / "bea.wav", 5))
    fill_in(dialog, "Bea")
    dialog.element("voice-save").click()
    expect(dialog.element("voice")).to_have_value("bea")
    dialog.page.once("dialog", lambda question: question.accept())
    dialog.page.get_by_role("button", name="Remove Bea").click()
    expect(dialog.element("own-voices")).to_be_hidden()
    expect(dialog.element("voice")).to_have_value("narrator")


def test_unavailable_voices_are_shown_with_the_reason(ready_page: SpeakPage) -> None:
    expect(ready_page.page.get_by_role("option", name="Makima (not available)")).to_be_disabled()
    ready_page.page.get_by_text("Why is Makima not available?").click()
    ready_page.expect_text("voice-reasons", "It has no clip yet")
