"""From an engine's samples to the bytes that a listener asked for.

In: float32 samples in -1…1 at the engine's rate, in any split. Out: mono little-endian PCM at the
listener's rate. Does not know: frames of a wire, containers, who listens.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from makima_tts.audio.resample import StreamingResampler
from makima_tts.errors import SynthesisError

# The protocol's names; this layer lies below it.
PcmEncoding = Literal["pcm16", "pcm32f"]

# Symmetrical: -1 and +1 are equally far from 0, and 0 stays 0. -32768 is never used.
_PCM16_FULL_SCALE = 32767


class PcmEncoder:
    """One utterance's samples → bytes; a new utterance needs a new encoder.

    ``pcm16`` is clipped at full scale and rounded to the nearest; ``pcm32f`` has headroom and is neither.
    Any split of the samples gives the same bytes.
    """

    def __init__(self, source_rate_hz: int, rate_hz: int, encoding: PcmEncoding) -> None:
        self._resampler = StreamingResampler(source_rate_hz, rate_hz)
        self._encoding = encoding

    def encode(self, pcm: npt.NDArray[np.float32]) -> bytes:
        """float32 [n] → whole samples, fewer or more than came in, as the resampler lets them go.

        Raises SynthesisError for NaN or Inf.
        """
        _require_numbers(pcm)
        return self._to_bytes(self._resampler.push(pcm))

    def flush(self) -> bytes:
        """The rest; nothing may be encoded after it."""
        return self._to_bytes(self._resampler.flush())

    def _to_bytes(self, pcm: npt.NDArray[np.float32]) -> bytes:
        # Again, since finite samples near the largest float overflow in the resampler's filter.
        _require_numbers(pcm)
        if self._encoding == "pcm32f":
            return pcm.astype("<f4", copy=False).tobytes()
        return np.rint(np.clip(pcm, -1.0, 1.0) * _PCM16_FULL_SCALE).astype("<i2").tobytes()


def _require_numbers(pcm: npt.NDArray[np.float32]) -> None:
    if not np.isfinite(pcm).all():
        raise SynthesisError("The engine made audio that is not a number; nothing of it was sent.")
