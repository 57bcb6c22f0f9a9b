"""One chromium for all tests of the page; a context and a page for each of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import service_process
from tests.page.clips import write_clip
from tests.page.speak_page import SpeakPage
from tests.transport.processes import ServerProcess

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    # A microphone that plays a file, and no question about it.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--use-file-for-fake-audio-capture={clip}",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


# For the package, not the session: while playwright's loop is there, no asyncio test can have one.
@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Debian's chromium. Without it tests are skipped, unless MAKIMA_TTS_REQUIRE_BROWSER is set."""
    if not CHROMIUM.exists():
        assert not os.environ.get("MAKIMA_TTS_REQUIRE_BROWSER"), f"{CHROMIUM} is required here"
        pytest.skip(f"{CHROMIUM} is not installed")
    clip = write_clip(tmp_path_factory.mktemp("microphone") / "voice.wav", 10)
    arguments = [argument.format(clip=clip) for argument in ARGUMENTS]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One service that plays scripts, for all tests that need no settings of their own."""
    with service_process(tmp_path_factory.mktemp("service")) as process:
        yield process.until_listening()


@pytest.fixture
def speak_page(browser: Browser) -> Iterator[SpeakPage]:
    """An empty page. Whatever the console complains of that a test did not expect fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    page = SpeakPage(context.new_page())
    yield page
    context.close()
    assert page.complaints == []


@pytest.fixture
def ready_page(speak_page: SpeakPage, server: ServerProcess) -> SpeakPage:
    """The page of that service, ready to speak."""
    speak_page.open(server)
    speak_page.expect_status("Ready.")
    return speak_page
