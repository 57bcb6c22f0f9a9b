"""Drives the speak page like a user, and captures the samples that it plays.

In: a playwright page, a server. Out: user actions, visible texts, captured samples. Does not know: what is
tested.
"""

import base64
import json
from typing import Any

import numpy as np
import numpy.typing as npt
from playwright.sync_api import ConsoleMessage, Error, Locator, Page, WebSocket, expect
from websockets.sync.client import connect

from tests.transport.processes import ServerProcess

PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)

# The last quanta of audio, as base64 of floats.
_CAPTURED = """
(count) => new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.split(",")[1] ?? "");
  reader.readAsDataURL(new Blob(makima.captured.slice(-count)));
})
"""
_QUANTUM_SAMPLES = 128
_EVERYTHING = 10**9

# The text of the element, if the expected text is not visible in time.
_UNTIL_SAID = """
([id, words, patienceMs]) => new Promise((resolve) => {
  const element = document.getElementById(id);
  const said = () => element.checkVisibility() ? element.textContent.replace(/\\s+/g, " ") : "(hidden)";
  const look = () => { if (said().includes(words)) resolve(null); };
  const everything = { attributes: true, characterData: true, childList: true, subtree: true };
  new MutationObserver(look).observe(document.body, everything);
  setTimeout(() => resolve(said()), patienceMs);
  look();
})
"""

Samples = npt.NDArray[np.float64]


class SpeakPage:
    """``complaints``: errors and warnings of the console, except those with a word from ``expected``."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.expected: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self._received = b""
        self._complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._hear)
        page.on("pageerror", self._hear_of)
        page.on("websocket", self._listen)

    @property
    def complaints(self) -> list[str]:
        return [
            complaint
            for complaint in self._complaints
            if not any(word in complaint for word in self.expected)
        ]

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._complaints.append(message.text)

    def _hear_of(self, error: Error) -> None:
        self._complaints.append(str(error))

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: self.sent.append(json.loads(frame)))
        socket.on("framereceived", self._receive)

    def _receive(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            self._received += frame

    def open(self, server: ServerProcess) -> None:
        """Opens the page with audio capture, as ``page.js`` documents it."""
        self.open_at(f"http://{server.host}:{server.port}/speak")

    def open_at(self, address: str) -> None:
        self.page.goto(f"{address}?capture")
        while self._interrupted():
            self.page.reload()

    def leave(self) -> None:
        """Resets the tab for the next test and stops its audio."""
        self.page.remove_listener("console", self._hear)
        self.page.remove_listener("pageerror", self._hear_of)
        self.page.remove_listener("websocket", self._listen)
        self.page.evaluate("() => localStorage.clear()")
        self.page.goto("about:blank")

    def _interrupted(self) -> bool:
        """Whether chromium aborted loading because a network interface of this machine changed."""
        found = [complaint for complaint in self._complaints if "ERR_NETWORK_CHANGED" in complaint]
        self._complaints = [complaint for complaint in self._complaints if complaint not in found]
        return bool(found)

    def element(self, element_id: str) -> Locator:
        return self.page.locator(f"#{element_id}")

    def text_of(self, element_id: str) -> str:
        return self.element(element_id).inner_text()

    def speak(self, text: str) -> None:
        self.element("text").fill(text)
        self.page.keyboard.press("Control+Enter")

    def expect_status(self, words: str) -> None:
        """Waits for this status line."""
        self.expect_text("status", words)

    def expect_text(self, element_id: str, words: str) -> None:
        """Waits for this visible text of the element; unlike playwright's own wait, without polling."""
        said = self.page.evaluate(_UNTIL_SAID, [element_id, words, PATIENCE_MS])
        assert said is None, f"#{element_id} says {said!r} rather than {words!r}"

    def captured(self, quanta: int = _EVERYTHING) -> Samples:
        """The last samples that left the worklet, including silence, in 16-bit steps as on the wire."""
        floats = np.frombuffer(base64.b64decode(self.page.evaluate(_CAPTURED, quanta)), "<f4")
        return floats.astype(np.float64) * 32768

    def heard(self) -> Samples:
        """The samples that left the worklet, from the first that is not zero to the last."""
        return np.trim_zeros(self.captured())

    def received(self) -> Samples:
        """The samples that the page's socket received, without zeros at the ends."""
        return _samples(self._received)

    def expect_silence(self) -> None:
        """Returns once half a second of zeros has left the worklet."""
        quanta = 12_000 // _QUANTUM_SAMPLES
        while (last := self.captured(quanta)).size < quanta * _QUANTUM_SAMPLES or last.any():
            self.page.wait_for_timeout(50)


def fetch_samples(server: ServerProcess, text: str, **options: Any) -> Samples:
    """The same text over a separate socket: its samples in 16-bit steps, without zeros at the ends."""
    with connect(f"ws://{server.host}:{server.port}/api/v1/speak") as socket:
        socket.send(json.dumps({"type": "start", "sampleRate": 24000, "encoding": "pcm16"}))
        socket.send(json.dumps({"type": "speak", "text": text, **options}))
        pcm = b""
        while True:
            frame = socket.recv(timeout=PATIENCE_MS / 1000)
            if isinstance(frame, bytes):
                pcm += frame
            elif json.loads(frame)["type"] == "complete":
                return _samples(pcm)


def _samples(pcm: bytes) -> Samples:
    return np.trim_zeros(np.frombuffer(pcm, "<i2").astype(np.float64))
