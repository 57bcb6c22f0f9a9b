"""A service that is sent hostile files, measured from inside its process.

In: a folder of files. Out, on standard output: for each file the answer, the seconds computed, and how far
the process has grown since before the first one. Does not know: which answer is right.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.audio.recordings import recorded
from tests.voices.clips import TRANSCRIPT, good_clip
from tests.voices.conftest import Place, WatchedEngine, make_voice
from tests.voices.test_routes import URL, voices_app

MAX_UPLOAD_BYTES = 32 * 2**20


async def _send(http: httpx.AsyncClient, name: str, path: Path) -> httpx.Response:
    with path.open("rb") as file:
        return await http.post(
            URL, data={"name": name, "transcript": TRANSCRIPT}, files={"audio": (name, file)}
        )


async def _measure(files: list[Path], root: Path) -> dict[str, dict[str, object]]:
    make_voice(root / "shipped", "narrator")
    app = voices_app(Place(root).manager(WatchedEngine()), MAX_UPLOAD_BYTES)
    # One for libsndfile, one for FFmpeg, which is loaded by it.
    goods = [root / "good.wav", root / "good.m4a"]
    goods[0].write_bytes(good_clip())
    goods[1].write_bytes(recorded("ipod", "aac"))
    answers = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://voices") as http:
        for good in goods:
            assert (await _send(http, good.name, good)).status_code == 201
        before_bytes = _peak_bytes()
        for path in files:
            begun_s = time.process_time()
            response = await _send(http, path.stem, path)
            answers[path.stem] = {
                "status": response.status_code,
                "body": response.json(),
                "took_s": time.process_time() - begun_s,
                "grown_bytes": _peak_bytes() - before_bytes,
            }
    return answers


def _peak_bytes() -> int:
    """Peak memory of this process; getrusage would include that of its parent."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as root:
        json.dump(asyncio.run(_measure(sorted(Path(sys.argv[1]).iterdir()), Path(root))), sys.stdout)
