"""What counts as silence, and what is done about too much of it.

In: the samples of frames. Out: which frames are let through, whether a piece is over. Does not know: where
sound comes from.

A frame is silent when no 10 ms of it reach -50 dBFS: speech lies above, a studio's room tone below. The
model opens with up to half a second of silence, which listeners would wait for; and about once in three
hundred times it does not find its end and goes on in silence.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.float32]

SILENT_RMS = 10 ** (-50 / 20)
WINDOW_S = 0.01
# Twice the longest that was seen; what is silent for longer is meant to be.
MOST_SKIPPED_FRAMES = 12
# Two seconds: no pause within a sentence is as long.
END_AFTER_FRAMES = 25


def loud_frames(pcm: Pcm, frames: int, sample_rate_hz: int) -> npt.NDArray[np.bool_]:
    """float32 [frames * samples] → bool [frames]: which are not silent."""
    per_frame = pcm.size // frames
    windows = max(1, round(per_frame / (sample_rate_hz * WINDOW_S)))
    usable = per_frame - per_frame % windows
    framed = pcm.reshape(frames, per_frame)[:, :usable].reshape(frames, windows, -1)
    loudest: npt.NDArray[np.float32] = np.square(framed).mean(axis=2).max(axis=1)
    return loudest >= SILENT_RMS**2


@dataclass(slots=True)
class SilenceGuard:
    """One utterance's silences. ``begun``: something has been let through."""

    begun: bool = False
    skipped: int = 0
    run: int = 0

    def begin_piece(self) -> None:
        self.run = 0

    def pass_on(self, pcm: Pcm, frames: int, sample_rate_hz: int, *, after_text: int) -> Pcm:
        """What of these frames is to be heard, float32 [samples]: all but leading silence.

        ``after_text``: so many of them, the last, were made when the text was used up.
        """
        loud = loud_frames(pcm, frames, sample_rate_hz)
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
