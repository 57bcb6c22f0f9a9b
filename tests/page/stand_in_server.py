"""A fake service behind the page's WebSocket, controlled by a test; HTTP still reaches the real service."""

import json
from typing import Any

from playwright.sync_api import Page, WebSocketRoute

READY: dict[str, Any] = {
    "type": "ready",
    "sessionId": "s",
    "voiceLoaded": True,
    "capabilities": {
        "streaming": True,
        "languages": ["English"],
        "encodings": ["pcm16", "pcm32f"],
        "sampleRates": [24000],
        "cloning": True,
        "textStreaming": True,
    },
    "engine": "stand-in",
    "model": "none",
    "protocolVersion": 1,
    "limits": {
        "maxTextChars": 1000,
        "maxQueuedUtterances": 32,
        "idleTimeoutMs": 120_000,
        "maxSessionMs": 3_600_000,
        "maxTextStallMs": 30_000,
    },
    "sampleRate": 24000,
    "encoding": "pcm16",
    "voice": "narrator",
}


class StandInServer:
    """``heard``: the messages of the page over all of its ``connections``, which are counted."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._socket: WebSocketRoute | None = None
        self.heard: list[dict[str, Any]] = []
        self.connections = 0
        page.route_web_socket("**/api/v1/speak", self._connected)

    def _connected(self, socket: WebSocketRoute) -> None:
        self._socket = socket
        self.connections += 1
        socket.on_message(lambda message: self.heard.append(json.loads(message)))

    def _require_socket(self) -> WebSocketRoute:
        while self._socket is None:
            self._page.wait_for_timeout(10)
        return self._socket

    def hear(self, type_: str) -> dict[str, Any]:
        """Waits for a message of this type from the page."""
        while True:
            for message in self.heard:
                if message["type"] == type_:
                    return message
            self._page.wait_for_timeout(10)

    def say(self, type_: str, **fields: Any) -> None:
        self._require_socket().send(json.dumps({"type": type_, **fields}))

    def say_ready(self, **capabilities: Any) -> None:
        self.say(**{**READY, "type_": "ready", "capabilities": READY["capabilities"] | capabilities})

    def send_audio(self, pcm: bytes) -> None:
        self._require_socket().send(pcm)

    def close(self, code: int) -> None:
        socket, self._socket = self._require_socket(), None
        socket.close(code=code)
