"""The example conversation page in chromium, with a simulated microphone."""

import functools
import os
import subprocess
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.page.conftest import ARGUMENTS, CHROMIUM
from tests.transport.processes import ServerProcess
from tests.typescript.conftest import EXAMPLE, ROOT, check_types

pytestmark = pytest.mark.browser

PATIENCE_MS = 20_000
# The user speaks, waits for the answer, and speaks again during the answer.
SPOKEN_S, ANSWERED_S = 1.5, 3.0


def _write_two_turns(path: Path) -> Path:
    with wave.open(str(ROOT / "voices" / "narrator" / "reference.wav")) as clip:
        rate_hz = clip.getframerate()
        voice = np.frombuffer(clip.readframes(round(2 * SPOKEN_S * rate_hz)), "<i2")
    first, second = np.split(voice, 2)
    quiet = np.zeros(round(0.3 * rate_hz), "<i2")
    waiting = np.zeros(round(ANSWERED_S * rate_hz), "<i2")
    with wave.open(str(path), "wb") as microphone:
        microphone.setnchannels(1)
        microphone.setsampwidth(2)
        microphone.setframerate(rate_hz)
        microphone.writeframes(np.concatenate([quiet, first, waiting, second, waiting]).tobytes())
    return path


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """A static web server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def built(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bundled page, behind a web server."""
    folder = tmp_path_factory.mktemp("conversation")
    build = ["npm", "run", "build", "--", "--outDir", str(folder)]
    subprocess.run(build, cwd=EXAMPLE, check=True)
    with _served(folder) as url:
        yield url


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    if not CHROMIUM.exists():
        assert not os.environ.get("MAKIMA_TTS_REQUIRE_BROWSER"), f"{CHROMIUM} is required here"
        pytest.skip(f"{CHROMIUM} is not installed")
    clip = f"{_write_two_turns(tmp_path / 'microphone.wav')}%noloop"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[argument.format(clip=clip) for argument in ARGUMENTS]
        )
        page = chromium.new_page()
        page.set_default_timeout(PATIENCE_MS)
        yield page
        chromium.close()


def test_speech_gets_an_answer_and_speech_during_the_answer_cancels_it(
    built: str, page: Page, scripted_service: ServerProcess
) -> None:
    page.goto(f"{built}/?service={scripted_service.url}/api/v1/speak")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#status")).to_have_text("Speaking.", timeout=PATIENCE_MS)
    answer = page.locator("li.answer").first
    whole = answer.text_content() or ""
    expect(answer.locator("del")).to_be_attached(timeout=PATIENCE_MS)
    spoken, rest = answer.evaluate("(turn) => [turn.firstChild.data, turn.querySelector('del').textContent]")
    assert spoken + rest == whole
    assert spoken.startswith("I heard you")
    assert len(rest) > len(whole) / 2
    second = page.locator("li.answer").nth(1)
    expect(second).to_contain_text("The last that you heard of me was:", timeout=PATIENCE_MS)
    assert " ".join(spoken.split()[-4:]) in (second.text_content() or "")


@pytest.mark.usefixtures("package")
def test_its_own_tests_and_its_type_check_pass() -> None:
    subprocess.run(["npm", "test"], cwd=EXAMPLE, check=True)
    check_types(EXAMPLE)
