"""Checkpoints with random weights in the published layout, for tests and measurements.

In: a Shape. Out: folders that our engine and the reference package load; small models, loaded once a run
(``models``). Does not know: what is tested or measured.
"""

from tests.checkpoints.shapes import PUBLISHED, QUICK, SHAPES, Shape
from tests.checkpoints.writing import checkpoint_in, write_checkpoint, write_ending_checkpoint

__all__ = [
    "PUBLISHED",
    "QUICK",
    "SHAPES",
    "Shape",
    "checkpoint_in",
    "write_checkpoint",
    "write_ending_checkpoint",
]
