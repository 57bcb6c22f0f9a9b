"""Functions of Triton kernels that are applied to float32 in registers."""

from typing import Final

import triton
import triton.language as tl

NOTHING: Final = 0
GELU: Final = 1
SILU: Final = 2


@triton.jit
def snake(x, turns, amplitude):
    """Snake of codec_ops, x + sin²(π · x · turns) · amplitude; the sine to 2e-7.

    The square of the sine has the period 1, so whole periods are subtracted without error; the sine is a
    polynomial of the square of the rest. CUDA's sine takes four times as many instructions, and the codec
    computes two of them for each feature.
    """
    phase = x * turns
    rest = phase - tl.floor(phase + 0.5)
    # Beyond 2²³ floats have no halves, and there is no phase: the result only has to be finite.
    rest = tl.minimum(tl.maximum(rest, -0.5), 0.5)
    square = rest * rest
    sine = 0.7419169321656227 * square - 3.9130302950673337
    sine = sine * square + 13.206597007070998
    sine = sine * square - 30.121752628920024
    sine = sine * square + 42.728385015372396
    sine = sine * square - 32.46969664340683
    sine = sine * square + 9.869604400151083
    return x + sine * square * amplitude


@triton.jit
def activated(x, ACTIVATION: tl.constexpr):
    """``ACTIVATION``: NOTHING, GELU or SILU."""
    if ACTIVATION == 1:
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    if ACTIVATION == 2:
        return x / (1.0 + tl.exp(-x))
    return x
