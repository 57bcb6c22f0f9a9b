"""The real server with a Qwen3-TTS, in a process of its own.

In: a checkpoint, a device, a precision. Out: its WebSocket's URL once it can speak, how long that took, its
memory. Does not know: who listens.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.processes import line_of, resident_kib, running, threads
from bench.served_precisions import server_settings
from bench.spoken import TRANSCRIPT
from bench.voices import VOICE, write_voice
from makima_tts.errors import ModelLoading
from makima_tts.model import CpuPrecision

_PATIENCE_S = 1800.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Choice:
    """``threads`` None: as many as the CPU has. ``streams``: utterances at once, at most.

    ``module``: what is run, and serves as ``makima_tts`` does.
    """

    checkpoint: Path
    precision: CpuPrecision
    device: str = "cpu"
    threads: int | None = None
    streams: int = 8
    module: str = "makima_tts"


@dataclass(frozen=True, slots=True)
class Server:
    """``start_s``: from the process's beginning until it was ready."""

    pid: int
    address: str
    start_s: float

    @property
    def url(self) -> str:
        return f"{self.address.replace('http', 'ws', 1)}/api/v1/speak"

    def resident_mib(self, *, peak: bool = False) -> float:
        return resident_kib(self.pid, peak=peak) / 1024


@contextmanager
def home(transcript: str = TRANSCRIPT) -> Iterator[Path]:
    """Folders of a server, with the voice that is measured in them; what it encodes is kept as long."""
    with TemporaryDirectory(prefix="makima-tts-bench-") as folder:
        write_voice(Path(folder) / "voices", transcript=transcript)
        yield Path(folder)


@contextmanager
def serving(choice: Choice, folder: Path) -> Iterator[Server]:
    """Ready; with ``folder`` of a server that was ready before, its voice is not encoded again."""
    settings = {
        **server_settings(choice.checkpoint, choice.device, choice.precision),
        "TTS_MAX_STREAMS": str(choice.streams),
        "TTS_DEFAULT_VOICE": VOICE,
        "TTS_VOICES_DIR": str(folder / "voices"),
        "TTS_CACHE_DIR": str(folder / "cache"),
        "TTS_UTTERANCE_TIMEOUT_S": str(_PATIENCE_S),
        "TTS_LOAD_TIMEOUT_S": str(_PATIENCE_S),
        "TTS_MAX_SESSION_S": str(_PATIENCE_S),
        "TTS_LOG_LEVEL": "error",
        **threads(choice.threads),
    }
    began_s = time.monotonic()
    with running(choice.module, "serve", "--port", "0", environment=settings) as process:
        address = _address(line_of(process))
        _await_ready(address)
        yield Server(process.pid, address, time.monotonic() - began_s)


def _address(line: str) -> str:
    return next(word for word in line.split() if word.startswith("http://"))


def _await_ready(address: str) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(f"{address}/ready", timeout=_PATIENCE_S).close()  # noqa: S310, it is ours
            return
        except urllib.error.HTTPError as error:
            said = json.loads(error.read())["error"]
            assert said["code"] == ModelLoading.code, said["message"]
            assert time.monotonic() < deadline_s, "the server did not become ready"
            time.sleep(_POLL_S)
