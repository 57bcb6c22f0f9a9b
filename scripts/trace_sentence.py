"""Count the files of the package that one sentence passes, from the socket to the sound.

In: a small Qwen3-TTS checkpoint made for the purpose. Out: the names of the files, and how many. Does not
know: a limit.

The service runs in this process, on a real socket, with the engine for CPUs. A profile function notes every
file of ours in which a function runs between ``speak`` and ``complete``, on all threads. The voice has spoken
before. Run it from the root of the repository: ``python -m scripts.trace_sentence``.
"""

import asyncio
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from makima_tts import factory
from makima_tts.settings import Settings
from tests.api.service import Client, running
from tests.checkpoints.models import ENDING, checkpoint_folder

PACKAGE = Path(factory.__file__).parent
_SENTENCE = "The rain had stopped by the time we reached the harbour."


class FileRecorder:
    """Notes files of the package while ``recording`` is set."""

    def __init__(self) -> None:
        self.recording = False
        self.files: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """A profile function, for ``sys.setprofile``."""
        if self.recording and event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            self.files.add(frame.f_code.co_filename)


async def _speak(client: Client) -> None:
    await client.send("speak", text=_SENTENCE, seed=1)
    await client.until("complete")


async def traced_files(recorder: FileRecorder) -> list[str]:
    """Paths below the package, sorted."""
    settings = Settings(
        _env_file=None, engine="qwen3", model_id=str(checkpoint_folder(ENDING)), offline=True, device="cpu"
    )
    with tempfile.TemporaryDirectory() as folder:
        async with (
            running(Path(folder), factory.build_qwen3(settings), max_session_s=3600) as service,
            service.started(voice="narrator") as client,
        ):
            await _speak(client)
            recorder.recording = True
            await _speak(client)
            recorder.recording = False
    return sorted(str(Path(file).relative_to(PACKAGE)) for file in recorder.files)


def main() -> None:
    """Print the files, then how many they are."""
    recorder = FileRecorder()
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    files = asyncio.run(traced_files(recorder))
    sys.setprofile(None)
    print(*files, f"{len(files)} files", sep="\n")


if __name__ == "__main__":
    main()
