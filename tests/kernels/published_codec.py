"""All that the published codec's decoder launches, compiled for cards that are not here.

In: compute capabilities. Out: each kernel on the newest and the one that needs most on all; how many launches
a call is. Does not know: what may be used.

Its tensors have no numbers, so that whatever would read one back fails.
"""

import re
from collections.abc import Sequence

import torch

from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.codec import CodecDecoder
from makima_tts.model.codec_ops import MAX_FRAMES
from makima_tts.model.triton.codec import finish, triton_codec_ops
from tests.checkpoints import PUBLISHED
from tests.checkpoints.configuration import codec_config
from tests.checkpoints.tensors import codec_sizes
from tests.kernels.offline import Launch, launches_of
from tests.model.memory_tensors import weights_in_memory

_NOWHERE = torch.device("meta")
_SLOTS, _RATE_HZ = 257, 24_000
LARGEST_ROWS = 128


def decoder() -> CodecDecoder:
    written = codec_config(PUBLISHED["0.6B"])
    sizes = dict(codec_sizes(written))
    tensors = {name: torch.empty(size, device=_NOWHERE) for name, size in sizes.items()}
    weights = weights_in_memory(tensors, torch.bfloat16, _NOWHERE)
    config = CodecDecoderConfig.model_validate(written["decoder_config"])
    return CodecDecoder.load(config, weights.within("decoder"), triton_codec_ops())


def launches(rows: int, frames: int) -> list[Launch]:
    tried = decoder()
    state = tried.new_state(_SLOTS)
    codes = torch.empty(rows, frames, 16, dtype=torch.int64, device=_NOWHERE)
    slots = torch.empty(rows, dtype=torch.int64, device=_NOWHERE)
    return launches_of(lambda: finish(tried.decode(codes, state, slots), frames, _RATE_HZ))


def variants(rows: int = 2, frames: int = 2) -> list[Launch]:
    """One of each kernel and tile: the one with most tensors, so with most to do."""
    found: dict[tuple[object, ...], Launch] = {}
    for launch in sorted(launches(rows, frames), key=_tensors):
        told = ("BLOCK_M", "BLOCK_N", "GATED")
        found[launch.kernel.fn.__name__, *(launch.constants.get(name) for name in told)] = launch
    return list(found.values())


def _tensors(launch: Launch) -> int:
    return sum(kind.startswith("*") for kind in launch.signature.values())


def _compiled(launch: Launch, capability: int) -> dict[str, object]:
    made = launch.compiled(capability)
    return {
        "kernel": launch.kernel.fn.__name__,
        "capability": capability,
        "shared_bytes": made.metadata.shared,
        "instructions": sorted(set(re.findall(r"wgmma|mma\.sync|cp\.async\.cg", made.asm["ptx"]))),
    }


def _needed(launch: Launch, capability: int, newest: int) -> bool:
    """On older cards, the one that needs most of a card."""
    return capability == newest or launch.constants.get("BLOCK_M") == LARGEST_ROWS


def compiled_kernels(capabilities: Sequence[int]) -> list[dict[str, object]]:
    tried = [(launch, card) for card in capabilities for launch in variants()]
    return [_compiled(launch, card) for launch, card in tried if _needed(launch, card, max(capabilities))]


def launch_counts() -> list[int]:
    """Of one stream and of many, of one frame and of as many as a call may bring."""
    return [len(launches(rows, frames)) for rows, frames in ((1, 1), (256, 1), (32, MAX_FRAMES))]
