"""``makima-tts serve`` with a device that takes as long as it is told.

In: the command line and settings of the real one. Out: the real server. Does not know: who listens.
"""

from unittest import mock

from bench.paced_device import PacedRunner
from makima_tts.cli import main
from makima_tts.engine import thread

if __name__ == "__main__":
    with mock.patch.object(thread, "Runner", PacedRunner):
        main()
