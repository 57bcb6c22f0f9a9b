"""G.711: telephone sound, eight bits a sample, at 8 kHz.

In: 16-bit samples. Out: μ-law or A-law bytes. Does not know: rates, streams.

A table of every sample value, made when first asked for: encoding is then one look-up.
"""

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

G711Encoding = Literal["mulaw", "alaw"]
G711_ENCODINGS: tuple[G711Encoding, ...] = ("mulaw", "alaw")
G711_RATE_HZ = 8000

_Bytes = npt.NDArray[np.uint8]
_Int32 = npt.NDArray[np.int32]
_MULAW_BIAS = 33
_MULAW_LARGEST = 8158
_MULAW_INVERTED = 0x7F
_ALAW_INVERTED = 0x55


def compand(pcm: npt.NDArray[np.int16], law: G711Encoding) -> bytes:
    """int16 [n] → n bytes."""
    return _table(law)[pcm.view(np.uint16)].tobytes()


@cache
def _table(law: G711Encoding) -> _Bytes:
    """The byte of every 16-bit sample, by the sample's own bits, uint8 [65536]."""
    samples = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    return _LAWS[law](samples)


def _mulaw(samples: _Int32) -> _Bytes:
    """Of 14 bits: sign, three bits of segment, four of mantissa, all inverted."""
    magnitudes = np.minimum(_magnitudes(samples) >> 2, _MULAW_LARGEST) + _MULAW_BIAS
    segments = np.frexp(magnitudes)[1] - 6
    mantissas = (magnitudes >> (segments + 1)) & 0x0F
    return _byte(samples, segments, mantissas) ^ np.uint8(_MULAW_INVERTED)


def _alaw(samples: _Int32) -> _Bytes:
    """Of 13 bits: sign, three bits of segment, four of mantissa, every other bit inverted."""
    magnitudes = _magnitudes(samples) >> 3
    segments = np.maximum(np.frexp(magnitudes)[1] - 5, 0)
    mantissas = (magnitudes >> np.maximum(segments, 1)) & 0x0F
    return _byte(samples, segments, mantissas) ^ np.uint8(_ALAW_INVERTED)


def _magnitudes(samples: _Int32) -> _Int32:
    """Those of negative samples count from -1, so that both signs have the same steps."""
    return np.where(samples >= 0, samples, ~samples)


def _byte(samples: _Int32, segments: _Int32, mantissas: _Int32) -> _Bytes:
    """The highest bit is set for what is not negative."""
    byte = np.where(samples >= 0, 0x80, 0) | segments << 4 | mantissas
    return np.asarray(byte, np.uint8)


_LAWS: dict[G711Encoding, Callable[[_Int32], _Bytes]] = {"mulaw": _mulaw, "alaw": _alaw}
