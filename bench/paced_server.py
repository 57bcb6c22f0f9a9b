"""``makima-tts serve`` with a device of set durations.

In: the command line and settings of the real one; SIGUSR1, which asks how late the host went on. Out: the
real server; the answer, in a file. Does not know: who listens.
"""

import os
import signal
from pathlib import Path
from unittest import mock

from bench.paced_device import LATENESS, PacedRunner, write_lateness
from makima_tts.cli import main
from makima_tts.engines.qwen3 import loop

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: write_lateness(Path(os.environ[LATENESS])))
    with mock.patch.object(loop, "Runner", PacedRunner):
        main()
