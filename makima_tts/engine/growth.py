"""Whether enough of a growing text has come to speak on: rather wait once than after every word.

In: frames that there is text for, when it came, what the listener still has to hear. Out: yes or no. Does not
know: the text, who writes it.

While a text may grow, every frame needs a row of it, and a listener hears a frame in 80 ms. A writer who
writes faster than that is followed at once. Of one who is slower, so much must be there beforehand as will be
missing until his text ends, which is guessed to be a sentence away; if it ends sooner, it is spoken sooner.
"""

from dataclasses import dataclass

# Rows of a sentence, some hundred letters of English.
_SENTENCE_FRAMES = 24


@dataclass(slots=True)
class Growth:
    """What has come since the text was last waited for: ``frames``, with the ``first`` of them at
    ``since_s``."""

    frames: int = 0
    first: int = 0
    since_s: float = 0.0

    def add(self, frames: int, now_s: float) -> None:
        if not self.frames:
            self.first, self.since_s = frames, now_s
        self.frames += frames

    def suffices(self, now_s: float, *, ahead_s: float, frame_s: float) -> bool:
        """``ahead_s``: what the listener still has to hear."""
        took_s = now_s - self.since_s
        # Frames' worth of text that come while one frame is heard.
        pace = (self.frames - self.first) * frame_s / took_s if took_s > 0 else 0.0
        return self.frames + ahead_s / frame_s >= _SENTENCE_FRAMES * (1 - pace)
