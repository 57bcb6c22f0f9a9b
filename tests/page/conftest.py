"""One chromium for all tests of the page, and one tab for tests that need no changes of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

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
    # Pages of other origins.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    # A simulated microphone that plays a file, without a permission prompt.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--use-file-for-fake-audio-capture={clip}",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here need the browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


# Package scope, not session scope: while playwright's event loop runs, no asyncio test can run.
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
    """One service with the scripted engine, for all tests that need no own settings."""
    with service_process(tmp_path_factory.mktemp("service")) as process:
        yield process.until_listening()


@pytest.fixture(scope="package")
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB") as context:
        yield context


@pytest.fixture(scope="package")
def tab(context: BrowserContext) -> Page:
    """Loading a page in an existing tab is much faster than in a new one."""
    return context.new_page()


@pytest.fixture
def speak_page(context: BrowserContext) -> Iterator[SpeakPage]:
    """An empty page. Unexpected errors and warnings on the console fail the test."""
    with context.new_page() as page:
        yield from _until_it_is_left(SpeakPage(page))


@pytest.fixture
def ready_page(tab: Page, server: ServerProcess) -> Iterator[SpeakPage]:
    """The page of that service, ready."""
    page = SpeakPage(tab)
    page.open(server)
    page.expect_status("Ready.")
    yield from _until_it_is_left(page)


def _until_it_is_left(page: SpeakPage) -> Iterator[SpeakPage]:
    yield page
    page.leave()
    assert page.complaints == []
