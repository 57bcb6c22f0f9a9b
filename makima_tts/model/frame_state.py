"""What streams remember from frame to frame, for all slots.

In: how many slots. Out: their tensors. Does not know: how a frame is made of them, whose slot it is.

S slots · E talker's hidden size · V codec vocabulary · X text rows of a slot.
"""

from dataclasses import dataclass

from torch import Tensor

from makima_tts.model.layers import KeyValueCache
from makima_tts.model.sampling import RuleRows


@dataclass(frozen=True, slots=True)
class FrameState:
    """Everything that a stream remembers from frame to frame but for its sound; allocated once.

    ``position``: where the next row goes, and by how much it ``advance``s in a step: 1, but for a slot that
    only fills up batches and is to stay where it is. ``frame`` counts over an utterance (for random numbers),
    ``piece_frame`` since the prompt. ``hidden`` [S, E] is what the next frame is made of, ``row`` [S, E] what
    the talker reads after it. ``text`` [S, X, E]: rows that go into frames; ``text_at`` of its
    ``text_rows`` have been. ``chosen`` bool [S, V]: what codebook 0 was since the prompt.
    """

    cache: KeyValueCache
    predictor_cache: KeyValueCache
    position: Tensor
    advance: Tensor
    frame: Tensor
    piece_frame: Tensor
    hidden: Tensor
    row: Tensor
    text: Tensor
    text_at: Tensor
    text_rows: Tensor
    chosen: Tensor
    seed: Tensor
    penalty: Tensor
    talker_rules: RuleRows
    predictor_rules: RuleRows
