"""From whole pieces to chunks, for engines that make the sound of a piece at once.

In: a piece's sound. Out: chunks as credit allows, small ones first. Does not know: how sound is made, what is
said.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from makima_tts.speech import AudioChunk, SpeechSink

# The first chunk is small so that it leaves soon.
FIRST_CHUNK_SAMPLES = 1920


@dataclass(frozen=True, slots=True)
class Spoken:
    """``pcm``: float32 [samples] in -1…1, empty for a piece without sound. ``synthesis_s``: what it took."""

    pcm: npt.NDArray[np.float32] = field(repr=False)
    synthesis_s: float


def chunk_sizes(largest_samples: int) -> Iterator[int]:
    """Samples of an utterance's first chunk, its second, and so on without end: each twice the one before."""
    size_samples = FIRST_CHUNK_SAMPLES
    while True:
        yield size_samples
        size_samples = min(2 * size_samples, largest_samples)


async def deliver(sink: SpeechSink, spoken: Spoken, index: int, sizes: Iterator[int]) -> None:
    """Hand a piece's sound over as credit allows, its synthesis time spread evenly."""
    total = spoken.pcm.size
    start = 0
    while start < total and await sink.credit():
        pcm = spoken.pcm[start : start + next(sizes)]
        start += pcm.size
        synthesis_s = spoken.synthesis_s * pcm.size / total
        sink.put(AudioChunk(pcm, index, ends_piece=start == total, synthesis_s=synthesis_s))
