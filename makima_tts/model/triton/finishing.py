"""What leaves the codec, in one launch: ``finish`` of codec_output.py.

In: float samples of whole frames. Out: 16-bit samples, which frames are loud, which are numbers. Does not
know: slots, what is done about silence.

B batch rows · F frames.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.codec_output import FULL_SCALE, SILENT_RMS, WINDOW_S


@triton.jit
def finished(
    samples: tl.tensor,
    pcm: tl.tensor,
    loud: tl.tensor,
    finite: tl.tensor,
    count: tl.constexpr,
    windows: tl.constexpr,
    least: tl.constexpr,
    full_scale: tl.constexpr,
    largest: tl.constexpr,
    count_block: tl.constexpr,
    windows_block: tl.constexpr,
    window_block: tl.constexpr,
) -> None:
    """A program for every frame, of ``count`` samples. ``least``: the mean square of what is loud."""
    frame = tl.program_id(0).to(tl.int64)
    samples += frame * count
    at = tl.arange(0, count_block)
    x = tl.load(samples + at, mask=at < count, other=0.0)
    strange = tl.sum(tl.where(tl.abs(x) <= largest, 0, 1), axis=0)
    x = tl.minimum(tl.maximum(tl.where(strange > 0, 0.0, x), -1.0), 1.0) * full_scale
    # Beside 1.5 · 2²³ there is no room for halves: they are rounded to even, as IEEE has it.
    whole = (x + 12582912.0) - 12582912.0
    tl.store(pcm + frame * count + at, whole.to(tl.int16), mask=at < count)
    tl.store(finite + frame, strange == 0)

    window, within = tl.arange(0, windows_block), tl.arange(0, window_block)
    size: tl.constexpr = count // windows
    here = (window < windows)[:, None] & (within < size)[None, :]
    x = tl.load(samples + (window * size)[:, None] + within[None, :], mask=here, other=0.0)
    means = tl.sum(x * x, axis=1) / size
    # As in torch, a mean that is no number is the greatest, and not loud.
    unknown = tl.sum(tl.where(means >= 0.0, 0, 1), axis=0)
    loudest = tl.max(tl.where(means >= 0.0, means, 0.0), axis=0)
    tl.store(loud + frame, (loudest >= least) & (unknown == 0))


def finish(samples: Tensor, frames: int, sample_rate_hz: int) -> tuple[Tensor, Tensor, Tensor]:
    """float32 [B, F * samples] → int16 of the same shape; ``loud`` and ``finite``, bool [B, F]."""
    samples = samples.contiguous()
    batch, count = len(samples), samples.shape[1] // frames
    pcm = torch.empty_like(samples, dtype=torch.int16)
    loud, finite = torch.empty(2, batch, frames, dtype=torch.bool, device=samples.device)
    windows = max(1, round(count / (sample_rate_hz * WINDOW_S)))
    finished[(batch * frames,)](
        samples,
        pcm,
        loud,
        finite,
        count=count,
        windows=windows,
        least=SILENT_RMS**2,
        full_scale=FULL_SCALE,
        largest=torch.finfo(torch.float32).max,
        count_block=triton.next_power_of_2(count),
        windows_block=triton.next_power_of_2(windows),
        window_block=triton.next_power_of_2(count // windows),
    )
    return pcm, loud, finite
