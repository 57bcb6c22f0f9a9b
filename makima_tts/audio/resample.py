"""Changes the sample rate of sound that is still being made.

In: float32 samples at one rate, in any split. Out: the same sound at another rate. Does not know: bytes,
chunks, utterances.

The filter's state is kept from call to call, so there is no click where two chunks meet, and any split of
the input gives bit-equal output (libsoxr works in blocks of its own, whatever it is handed).
"""

import numpy as np
import numpy.typing as npt
import soxr

_NOTHING = np.zeros(0, np.float32)


class StreamingResampler:
    """One stream of sound; a new stream needs a new resampler. Equal rates pass through untouched.

    libsoxr holds samples back until it has a block of them. From 24 kHz its first output comes after 936
    samples (39 ms) of input, after 1776 (74 ms) when the target is 8 kHz: a frame of 80 ms is always
    answered at once.
    """

    def __init__(self, source_rate_hz: int, rate_hz: int) -> None:
        self._stream = None
        if source_rate_hz != rate_hz:
            self._stream = soxr.ResampleStream(source_rate_hz, rate_hz, 1, dtype="float32", quality="HQ")

    def push(self, pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 [n] → what of the output became certain, float32 [m]; ``m`` may be 0."""
        return pcm if self._stream is None else self._stream.resample_chunk(np.ascontiguousarray(pcm))

    def flush(self) -> npt.NDArray[np.float32]:
        """What was held back, float32 [m]; nothing may be pushed after it.

        All in all, ``n`` samples in are ``n * rate_hz / source_rate_hz`` samples out, within one.
        """
        return _NOTHING if self._stream is None else self._stream.resample_chunk(_NOTHING, last=True)
