"""The quick checkpoint, made to speak for as long as its text lasts.

In: a folder. Out: a checkpoint in the published layout, in that folder. Does not know: what loads it, how
weights are made to end.
"""

from dataclasses import replace
from pathlib import Path

from tests.checkpoints import QUICK, write_checkpoint


def write_ending_checkpoint(folder: Path) -> Path:
    """Returns ``folder``."""
    return write_checkpoint(folder, replace(QUICK, ends_with_text=True))
