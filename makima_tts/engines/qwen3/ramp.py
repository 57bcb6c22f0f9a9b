"""How many frames go into a chunk.

In: the size of the chunk before, how fast synthesis is. Out: the size of the next. Does not know: utterances.

The first chunk is one frame, so that it is heard soon; later ones grow, so that there is less to do per
second of sound. While the next chunk is made, the one before it plays: so it may hold no more than can be
made in that time, its predecessor divided by the real-time factor.
"""

RAMP_FRAMES = (1, 2, 4, 8, 12)


def next_chunk_frames(previous: int, rtf: float) -> int:
    """``previous`` 0: the first. ``rtf``: synthesis seconds per second of sound, as measured lately."""
    larger = next((size for size in RAMP_FRAMES if size > previous), RAMP_FRAMES[-1])
    if previous == 0 or rtf <= 0:
        return larger
    return max(1, min(larger, int(previous / rtf)))
