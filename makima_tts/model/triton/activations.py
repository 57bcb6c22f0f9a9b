"""What is applied to numbers on their way to memory.

In: float32 in registers. Out: float32. Does not know: what the numbers are of, where they go.
"""

from typing import Final

import triton
import triton.language as tl

NOTHING: Final = 0
GELU: Final = 1
SILU: Final = 2


@triton.jit
def snake(x: tl.tensor, turns: tl.tensor, amplitude: tl.tensor) -> tl.tensor:
    """Snake of codec_ops, x + sin²(π · x · turns) · amplitude: the sine to 2e-7.

    The period of its square is 1, so that what is beyond can be taken off without an error; and it is a
    polynomial of the square of what remains. A sine of CUDA's is four times as many instructions, and there
    are two of them for each feature that the codec has.
    """
    turned = x * turns
    rest = turned - tl.floor(turned + 0.5)
    # Beyond 2²³ there is no half to be added, and no phase either: only a number is asked for.
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
def activated(x: tl.tensor, kind: tl.constexpr) -> tl.tensor:
    """``kind``: as above."""
    if kind == 1:
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    if kind == 2:
        return x / (1.0 + tl.exp(-x))
    return x
