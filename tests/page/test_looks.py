"""The page by keyboard, at any width, in light and dark; screenshots are saved in tests/output."""

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from tests.page.speak_page import SpeakPage
from tests.transport.processes import ServerProcess

OUTPUT = Path(__file__).parents[1] / "output"
WIDTHS = {"desktop": (1280, 800), "phone": (360, 740)}
TEXT = "{slow 0.9} It was a bright cold day in April, and the clocks were striking thirteen."

_COUNT_FRAMES = """
window.frames_asked = 0;
const request = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (draw) => { window.frames_asked += 1; return request(draw); };
"""
_UNNAMED = """
() => [...document.querySelectorAll("button, input, select, textarea, a[href], canvas, progress, meter")]
  .filter((element) => !element.ariaLabel && !element.textContent.trim() && !element.labels?.length)
  .map((element) => element.outerHTML)
"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_every_width_and_screenshots_are_saved(
    browser: Browser, server: ServerProcess, width: str, scheme: Literal["light", "dark"]
) -> None:
    wide, high = WIDTHS[width]
    with browser.new_context(viewport={"width": wide, "height": high}, color_scheme=scheme) as context:
        page = SpeakPage(context.new_page())
        page.open(server)
        page.expect_status("Ready.")
        page.speak(TEXT)
        page.expect_status("Speaking.")
        page.page.screenshot(path=OUTPUT / f"speaking-{width}-{scheme}.png", full_page=True)
        assert page.page.evaluate("document.documentElement.scrollWidth") == wide
        page.element("add-voice").click()
        page.page.screenshot(path=OUTPUT / f"adding-{width}-{scheme}.png")
        box = page.element("voice-dialog").bounding_box()
        assert box is not None
        assert box["width"] < wide
        assert box["height"] <= high
        assert page.complaints == []


def test_every_action_works_by_keyboard(ready_page: SpeakPage) -> None:
    keyboard = ready_page.page.keyboard
    expect(ready_page.element("text")).to_be_focused()
    keyboard.type("Hello {stall}")
    for stop in ("voice", "language", "speak", "unavailable-summary", "add-voice"):
        keyboard.press("Tab")
        expect(ready_page.element(stop)).to_be_focused()
    keyboard.press("Shift+Tab")
    keyboard.press("Shift+Tab")
    keyboard.press("Enter")
    ready_page.expect_status("Speaking.")
    keyboard.press("Tab")
    expect(ready_page.element("cancel")).to_be_focused()
    keyboard.press("Enter")
    ready_page.expect_status("Cancelled")
    ready_page.element("add-voice").focus()
    keyboard.press("Enter")
    expect(ready_page.element("voice-dialog")).to_be_visible()
    keyboard.press("Escape")
    expect(ready_page.element("voice-dialog")).to_be_hidden()
    expect(ready_page.element("add-voice")).to_be_focused()


def test_escape_closes_the_dialog_and_does_not_cancel_speech(ready_page: SpeakPage) -> None:
    ready_page.speak("Hello {stall}")
    ready_page.expect_status("Speaking.")
    ready_page.element("add-voice").click()
    ready_page.page.keyboard.press("Escape")
    expect(ready_page.element("voice-dialog")).to_be_hidden()
    ready_page.expect_status("Speaking.")


def test_the_focus_is_always_visible(ready_page: SpeakPage) -> None:
    ready_page.element("text").fill("Hello.")
    for element_id in ("voice", "language", "speak", "unavailable-summary", "add-voice"):
        ready_page.page.keyboard.press("Tab")
        expect(ready_page.element(element_id)).to_have_css("outline-style", "solid")


def test_every_control_has_a_name(ready_page: SpeakPage) -> None:
    assert ready_page.page.evaluate(_UNNAMED) == []


def test_reduced_motion_turns_animation_off(speak_page: SpeakPage, server: ServerProcess) -> None:
    speak_page.page.emulate_media(reduced_motion="reduce")
    speak_page.page.add_init_script(_COUNT_FRAMES)
    speak_page.open(server)
    speak_page.expect_status("Ready.")
    speak_page.speak("Hello there.")
    speak_page.expect_status("Spoken")
    assert speak_page.page.evaluate("() => frames_asked") == 0


def test_the_content_security_policy_blocks_foreign_and_inline_code(ready_page: SpeakPage) -> None:
    ready_page.expected = ["Content Security Policy"]
    ready_page.page.evaluate(
        "() => document.body.append(Object.assign(document.createElement('script'), "
        "{ textContent: 'window.injected = true' }))"
    )
    assert ready_page.page.evaluate("() => window.injected") is None
    assert len(ready_page.page.evaluate("() => [...document.querySelectorAll('[style], style')]")) == 0
