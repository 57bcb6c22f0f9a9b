"""What leaves the codec: samples as they are sent, and whether there is anything in them.

In: float samples of whole frames. Out: 16-bit samples, which frames are loud, which are numbers. Does not
know: slots, what is done about silence.

B batch rows · F frames.
"""

import torch
from torch import Tensor

# A frame is silent when no 10 ms of it reach -50 dBFS: speech lies above, a studio's room tone below.
SILENT_RMS = 10 ** (-50 / 20)
WINDOW_S = 0.01
# Symmetrical, as audio/pcm.py has it: -1 and +1 are equally far from 0, and -32768 is never used.
FULL_SCALE = 32767


def heard(samples: Tensor, frames: int, sample_rate_hz: int) -> tuple[Tensor, Tensor]:
    """float32 [B, F * samples] → ``loud`` and ``finite``, bool [B, F]."""
    batch, total = samples.shape
    per_frame = total // frames
    windows = max(1, round(per_frame / (sample_rate_hz * WINDOW_S)))
    framed = samples.view(batch, frames, per_frame)
    usable = framed[:, :, : per_frame - per_frame % windows].reshape(batch, frames, windows, -1)
    loudest = usable.square().mean(dim=3).amax(dim=2)  # [B, F]
    return loudest >= SILENT_RMS**2, framed.isfinite().all(dim=2)


def finish(samples: Tensor, frames: int, sample_rate_hz: int) -> tuple[Tensor, Tensor, Tensor]:
    """float32 [B, F * samples] from -1 to 1 → int16 of the same shape, ``loud`` and ``finite``.

    Half a step is rounded to even. A frame that is not finite is silence: NaN is never cast to integers.
    """
    loud, finite = heard(samples, frames, sample_rate_hz)
    whole = samples.view(len(samples), frames, -1).where(finite.unsqueeze(2), 0.0)
    pcm = (whole.clamp(-1.0, 1.0) * FULL_SCALE).round().to(torch.int16)
    return pcm.view_as(samples), loud, finite
