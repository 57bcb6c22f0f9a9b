"""How utterances are spoken, for all of an engine.

In: nothing. Out: a Manner. Does not know: voices, texts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Hears every frame that is made, on the engine thread: an utterance's id, and its codes, int64 [Q].
FrameWatcher = Callable[[str, npt.NDArray[np.int64]], None]


@dataclass(frozen=True, slots=True)
class Manner:
    """``greedy``: always the likeliest code. ``text_streams``: text is read along with speech, not before it.

    ``raw``: nothing that the reference package does not do: no silence appended to a reference, no silence
    skipped, no end but the model's own and ``max_frames``. ``max_frames``: of an utterance, at most.
    ``positions``: rows of prompt and frames that a piece may have together.
    """

    greedy: bool = False
    raw: bool = False
    text_streams: bool = True
    max_frames: int | None = None
    positions: int = 1280
