"""The process that aligns: ``python -m makima_tts.alignment``.

In: for each piece a line of JSON, then its samples, 16 bits, on stdin. Out: a line of JSON on stdout. Does
not know: who asks. It ends with its input, and runs at low priority: engines need the processor more.
"""

import json
import os
import sys
from contextlib import suppress

import numpy as np

from makima_tts.alignment.english import EnglishAligner

_NICENESS = 10


def main() -> None:
    with suppress(AttributeError, OSError):  # other systems than Unix
        os.nice(_NICENESS)
    aligner = EnglishAligner()
    while line := sys.stdin.buffer.readline():
        piece = json.loads(line)
        pcm = np.frombuffer(sys.stdin.buffer.read(2 * piece["samples"]), "<i2")
        times_s = aligner.align(piece["words"], pcm, piece["rate_hz"], whole=piece["whole"])
        sys.stdout.write(json.dumps(times_s) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
