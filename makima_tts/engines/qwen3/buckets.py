"""Into which shapes work is put, so that there is a graph for each.

In: how much there is to do. Out: sizes of the calls that do it. Does not know: graphs, what the work is.
"""

from bisect import bisect_left

# What a call decodes, counted in frames of one stream: larger calls are no faster for each, and what a call
# computes with grows with them.
CALL_FRAMES = 256
# How many frames of a stream one call decodes.
TURN_FRAMES = (1, 2, 4, 8)


def bucket_sizes(most: int) -> tuple[int, ...]:
    """Powers of two, from 16 on with another between two of them, up to ``most``: a third is filled up
    in vain at worst."""
    sizes, size = [], 1
    while size < most:
        sizes.append(size)
        between = size + size // 2
        if size >= 16 and between < most:
            sizes.append(between)
        size *= 2
    return (*sizes, most)


def bucket_of(count: int, sizes: tuple[int, ...]) -> int:
    """The smallest that holds ``count``. Raises ValueError beyond the largest."""
    place = bisect_left(sizes, count)
    if place == len(sizes):
        raise ValueError(f"{count} is more than the largest bucket, {sizes[-1]}")
    return sizes[place]


def turns_of(frames: int) -> list[int]:
    """Frames of a stream, in turns of 8, 4, 2 and 1: 12 is 8 and 4."""
    turns = [TURN_FRAMES[-1]] * (frames // TURN_FRAMES[-1])
    return turns + [size for size in reversed(TURN_FRAMES[:-1]) if frames & size]


def call_sizes(frames: int, streams: int) -> tuple[int, ...]:
    """How many streams one call decodes ``frames`` frames of."""
    return bucket_sizes(min(streams, max(1, CALL_FRAMES // frames)))
