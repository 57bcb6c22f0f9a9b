"""A time, written into sound.

In: nanoseconds of ``time.monotonic_ns``, one clock for all processes of a machine. Out: the first samples of
a chunk, which come through pcm32f at the engine's own rate bit by bit. Does not know: who sends them.
"""

import numpy as np
import numpy.typing as npt

STAMP_SAMPLES = 4
_DIGIT = 1 << 16


def write_stamp(pcm: npt.NDArray[np.float32], time_ns: int) -> None:
    """Overwrites the first samples of float32 [n] with ``time_ns``, 16 bits in each."""
    for place in range(STAMP_SAMPLES):
        pcm[place] = (time_ns >> (16 * place)) % _DIGIT / _DIGIT


def read_stamp(pcm: bytes) -> int:
    """The nanoseconds in the first samples of little-endian pcm32f."""
    digits = np.frombuffer(pcm, "<f4", STAMP_SAMPLES) * _DIGIT
    return sum(int(digit) << (16 * place) for place, digit in enumerate(digits))
