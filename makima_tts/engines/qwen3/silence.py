"""What is done about silence where there should be speech.

In: the samples of frames, and which of them are loud. Out: which frames are let through, whether a piece is
over. Does not know: where sound comes from, what counts as loud (model/codec_ops.py).

The model opens with up to half a second of silence, which listeners would wait for; and about once in three
hundred times it does not find its end and goes on in silence.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from makima_tts.audio import Pcm

# Twice the longest that was seen; what is silent for longer is meant to be.
MOST_SKIPPED_FRAMES = 12
# Two seconds: no pause within a sentence is as long.
END_AFTER_FRAMES = 25


@dataclass(slots=True)
class SilenceGuard:
    """One utterance's silences. ``begun``: something has been let through."""

    begun: bool = False
    skipped: int = 0
    run: int = 0

    def begin_piece(self) -> None:
        self.run = 0

    def pass_on(self, pcm: Pcm, loud: npt.NDArray[np.bool_], *, after_text: int) -> Pcm:
        """What of these frames is to be heard, [samples]: all but leading silence.

        ``loud``: bool [frames]. ``after_text``: so many of them, the last, were made when the text was used
        up.
        """
        frames = loud.size
        skipped = 0 if self.begun else self._leading(loud)
        self.skipped += skipped
        self.begun = self.begun or skipped < frames
        for frame_is_loud in loud[frames - after_text :]:
            self.run = 0 if frame_is_loud else self.run + 1
        return pcm[skipped * (pcm.size // frames) :]

    def _leading(self, loud: npt.NDArray[np.bool_]) -> int:
        silent = int(loud.argmax()) if loud.any() else loud.size
        return min(silent, MOST_SKIPPED_FRAMES - self.skipped)

    @property
    def lost(self) -> bool:
        """The text is used up, and for long there was nothing but silence."""
        return self.run >= END_AFTER_FRAMES
