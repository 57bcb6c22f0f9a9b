"""What is said in measurements, and the voice that says it: the same everywhere.

In: nothing. Out: texts, a clip. Does not know: models, or that there is torch.
"""

import numpy as np
import numpy.typing as npt

# The tokenizer of random checkpoints writes a token for nearly every letter, so these are as many tokens as
# a clip of six seconds has in words. The text has room for five seconds of speech.
TRANSCRIPT = "The harbour lay still."
TEXT = "Nobody spoke of boats."
LANGUAGE = "English"
SAMPLE_RATE_HZ = 24_000
CLIP_S = 6.0


def clip() -> npt.NDArray[np.float32]:
    """Something that hums and hisses: float32 [samples], the same everywhere."""
    time_s = np.arange(round(CLIP_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    hiss = np.random.Generator(np.random.PCG64(0)).random(len(time_s)) - 0.5
    hum = np.sin(2 * np.pi * 140 * time_s) * np.sin(2 * np.pi * 2 * time_s)
    return (0.2 * hum + 0.1 * hiss).astype(np.float32)
