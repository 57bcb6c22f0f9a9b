"""Whether enough of a growing text has come to speak on: rather wait once than after every word.

In: how many rows of text came when, what the listener still has to hear. Out: yes or no. Does not know: the
text, who writes it.

While a text may grow, every frame needs a row of it, and a listener hears a frame in 80 ms. A writer who is
faster than that is followed as soon as that is seen. Of one who is slower, so much must be there beforehand
as will be missing until the piece ends, whose length is guessed; if it ends sooner, it is spoken sooner.
"""

from dataclasses import dataclass

# The first piece is a clause, some fifty letters of English; those after it are sentences.
_FIRST_PIECE_ROWS = 12
_PIECE_ROWS = 24
# Words differ in length: two of them say little about how fast they come.
_LEAST_ROWS = 3


@dataclass(slots=True)
class Growth:
    """What has come of a piece since its text was last waited for: ``rows``, the ``first`` of them at
    ``since_s``."""

    piece_index: int
    rows: int = 0
    first: int = 0
    since_s: float = 0.0

    def add(self, rows: int, now_s: float) -> None:
        if not self.rows:
            self.first, self.since_s = rows, now_s
        self.rows += rows

    def suffices(self, now_s: float, *, ahead_s: float, frame_s: float) -> bool:
        """``ahead_s``: what the listener still has to hear."""
        took_s = now_s - self.since_s
        # Rows that come while a frame is heard.
        pace = (self.rows - self.first) * frame_s / took_s if took_s > 0 else 0.0
        guessed = _PIECE_ROWS if self.piece_index else _FIRST_PIECE_ROWS
        return self.rows + ahead_s / frame_s >= max(_LEAST_ROWS, guessed * (1 - pace))
