"""The part of the Hugging Face hub that a download uses, on a local socket.

In: files by name. Out: what was asked for, and a hub that can be told to fail. Does not know: who asks.

It answers as huggingface.co does (2026): ``/api/models/…?blobs=true`` says size and digest of every file,
``/…/resolve/…`` gives their content, in parts too, large ones by way of another host.
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from makima_tts.hub.download import download

MODEL = "someone/tts"
COMMIT = "c0ffee" + "0" * 34
WEIGHTS, CODEC = "model.safetensors", "speech_tokenizer/model.safetensors"


def tensors(size: int, seed: int) -> bytes:
    """A safetensors file with one tensor."""
    header = json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes((seed + 7 * n) % 256 for n in range(size))


CHECKPOINT = {
    "config.json": b'{"a": 1}',
    "generation_config.json": b"{}",
    "tokenizer_config.json": b'{"b": 2}',
    "vocab.json": b'{"c": 3}',
    "merges.txt": b"x y\n",
    "speech_tokenizer/config.json": b'{"d": 4}',
    CODEC: tensors(2500, 1),
    WEIGHTS: tensors(9500, 2),
}
REFUSED = {
    "pytorch_model.bin": b"a pickle",
    "README.md": b"# words",
    "speech_tokenizer/model.pt": b"another",
    "examples/config.json": b"{}",
}


@dataclass(frozen=True)
class Asked:
    """One request: ``range`` and ``authorization`` as they were sent."""

    path: str
    range: str | None
    authorization: str | None

    @property
    def name(self) -> str:
        """Of the file, if it was one."""
        return self.path.partition(f"/resolve/{COMMIT}/")[2]


@dataclass
class Hub:
    """Started on entering. ``spoilt``: served with other bytes than it says. ``cdn``: where large files are.

    ``refusal`` (status, code, words) answers everything that is asked of the API. ``held``: so many bytes of
    a file are sent, and the rest once ``released`` is set.
    """

    files: dict[str, bytes]
    commit: str = COMMIT
    spoilt: dict[str, bytes] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    refusal: tuple[int, str, str] | None = None
    answer: object = None
    knows_ranges: bool = True
    cdn: "Hub | None" = None
    asked: list[Asked] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answering, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def fetched(self) -> list[str]:
        """The files whose content was requested."""
        return [asked.name for asked in self.asked if asked.name]

    def description(self) -> object:
        """The API response for the model."""
        if self.answer is not None:
            return self.answer
        siblings = [_sibling(name, content) for name, content in self.files.items()]
        return {"id": MODEL, "sha": self.commit, "siblings": siblings}


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    sibling: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
    if name.endswith(".safetensors"):
        digest = hashlib.sha256(content).hexdigest()
        sibling["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 130}
    return sibling


class _Answering(BaseHTTPRequestHandler):
    def __init__(self, of: Hub, *connection: Any) -> None:
        self.of = of
        super().__init__(*connection)

    def do_GET(self) -> None:
        headers = self.headers
        self.of.asked.append(Asked(self.path, headers.get("Range"), headers.get("Authorization")))
        place = self.path.partition("?")[0]
        revisions = ("", "/revision/main", f"/revision/{self.of.commit}")
        if self.of.refusal and place.startswith("/api/"):
            status, code, words = self.of.refusal
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": words})
        elif place in {f"/api/models/{MODEL}{revision}" for revision in revisions}:
            self._send(200, json.dumps(self.of.description()).encode())
        elif place.startswith(f"/api/models/{MODEL}/"):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif place.startswith(f"/{MODEL}/resolve/{self.of.commit}/"):
            self._send_file(place.split("/", 5)[5])
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _send_file(self, name: str) -> None:
        if self.of.cdn and name.endswith(".safetensors"):
            self._send(302, b"", {"Location": self.of.cdn.url + self.path})
            return
        content = self.of.spoilt.get(name, self.of.files[name])
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.of.knows_ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        extent = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        self._send(206 if start else 200, content[start:], extent, held=self.of.held.get(name))

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, held: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:held])
        if held is not None:
            self.wfile.flush()
            self.of.released.wait()
            self.wfile.write(body[held:])

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


def hear_nothing(_words: str, _share: float) -> None:
    """Ignores the progress."""


def fetch(revision: str | None = None) -> Path:
    """Downloads the model."""
    return download(MODEL, revision=revision, report=hear_nothing)


def there(folder: Path) -> dict[str, bytes]:
    """The files in a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
