"""What is done about silence where there should be speech: it is skipped at the start, and ends a piece."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from makima_tts.audio import Pcm

# The model opens with up to half a second of silence. Twice the longest that was seen: a longer one is meant.
MAX_SKIPPED_FRAMES = 12
# About once in three hundred times the model does not find its end and goes on in silence. Two seconds: no
# pause within a sentence is as long.
END_AFTER_FRAMES = 25


@dataclass(slots=True)
class SilenceGuard:
    """One utterance's silences. ``begun``: sound has been passed on. ``silent_frames``: in a row, since the
    text was used up. What counts as loud is decided in model/codec_ops.py."""

    begun: bool = False
    skipped: int = 0
    silent_frames: int = 0

    def begin_piece(self) -> None:
        self.silent_frames = 0

    def pass_on(self, pcm: Pcm, loud: npt.NDArray[np.bool_], *, after_text: int) -> Pcm:
        """The samples without leading silence, [samples].

        ``loud``: bool [frames]. ``after_text``: so many of them, the last ones, were generated when the text
        was used up.
        """
        frames = loud.size
        skipped = 0 if self.begun else self._leading(loud)
        self.skipped += skipped
        self.begun = self.begun or skipped < frames
        for frame_is_loud in loud[frames - after_text :]:
            self.silent_frames = 0 if frame_is_loud else self.silent_frames + 1
        return pcm[skipped * (pcm.size // frames) :]

    def _leading(self, loud: npt.NDArray[np.bool_]) -> int:
        silent = int(loud.argmax()) if loud.any() else loud.size
        return min(silent, MAX_SKIPPED_FRAMES - self.skipped)

    @property
    def lost(self) -> bool:
        """The model has lost its way: the text is used up, and for long there was nothing but silence."""
        return self.silent_frames >= END_AFTER_FRAMES
