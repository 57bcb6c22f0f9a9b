"""How many streams there is memory for.

In: a loaded model, what a slot is to hold. Out: a number of slots. Does not know: time, what was asked for.
"""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from makima_tts.engines.qwen3.launches import SlotBuffers
from makima_tts.model.speech_model import SpeechModel

# Where memory is not the device's own; a CPU gives it to a slot only when it is used.
WITHOUT_A_GPU = 8
# Beyond it nothing is known to be gained: the step of so many takes a good part of a frame's time.
MOST = 256
# What graphs compute with and voices that come, and for what others on this card may want.
_RESERVED_BYTES = 1 << 30
_SHARE = 0.9


def streams_that_fit(model: SpeechModel, positions: int, text_rows: int) -> int:
    """At least one. Of a CUDA device's memory that is free now, once the model is loaded."""
    if model.device.type != "cuda":
        return WITHOUT_A_GPU
    torch.cuda.empty_cache()  # what is cached is free, but not counted
    free, _total = torch.cuda.mem_get_info(model.device)
    both = SlotBuffers.allocate(model, 1, positions, text_rows)  # and the spare one
    slot_bytes = bytes_in(both) // 2
    return fitting(free, slot_bytes)


def fitting(free_bytes: int, slot_bytes: int) -> int:
    """Slots, of which one is spare."""
    usable = int(_SHARE * free_bytes) - _RESERVED_BYTES
    return max(1, min(MOST, usable // slot_bytes - 1))


def bytes_in(state: object) -> int:
    """Of all tensors in it, dataclasses and collections within it included."""
    if isinstance(state, Tensor):
        return state.nbytes
    if is_dataclass(state):
        return sum(bytes_in(getattr(state, each.name)) for each in fields(state))
    values = state.values() if isinstance(state, dict) else state
    return sum(map(bytes_in, values)) if isinstance(values, Iterable) and not isinstance(values, str) else 0
