"""All that one frame of the published model launches, compiled for cards that are not here.

In: a compute capability, numbers of rows, names of kernels. Out: what is known of each kernel. Does not know:
what may be used.

Its tensors have no numbers, so that whatever would read one back fails.
"""

import re
import subprocess
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import triton
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.sampling import FirstCodebook, RuleRows, SamplerState
from makima_tts.model.transformer import KeyValueCache, LayerWeights, RotaryEmbedding, RowPositions
from makima_tts.model.triton.attention import triton_attention
from makima_tts.model.triton.linear import TritonLinear
from makima_tts.model.triton.sampler import TritonFrameSampler
from makima_tts.model.triton.transformer import TritonStack
from tests.kernels.offline import Launch, launches_of

SLOTS, POSITIONS, CODEBOOKS = 256, 2048, 16
VOCABULARY, CODES, EOS = 3072, 2048, 2150


def _tensor(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _floats(*shape: int) -> Tensor:
    return _tensor(*shape, dtype=torch.float32)


def _counts(*shape: int) -> Tensor:
    return _tensor(*shape, dtype=torch.int64)


def _flags(*shape: int) -> Tensor:
    return _tensor(*shape, dtype=torch.bool)


def _stack() -> TritonStack:
    """One layer of the talker; the code predictor's are of the same sizes."""
    config = TransformerConfig(num_hidden_layers=1, num_key_value_heads=8, head_dim=128)
    layer = LayerWeights(
        input_norm=_tensor(1024),
        qkv=_tensor(4096, 1024),
        qkv_bias=None,
        query_norm=_tensor(128),
        key_norm=_tensor(128),
        out=_tensor(1024, 2048),
        out_bias=None,
        mlp_norm=_tensor(1024),
        gate_up=_tensor(6144, 1024),
        down=_tensor(1024, 3072),
        window=None,
    )
    rotary = RotaryEmbedding(_floats(POSITIONS, 128), _floats(POSITIONS, 128))
    return TritonStack(config, [layer], _tensor(1024), rotary, triton_attention)


def frame(rows: int) -> None:
    """What of it is different for so many streams."""
    slots, cache = _counts(rows), _tensor(1, SLOTS, 8, POSITIONS, 128)
    at = RowPositions(_counts(rows, 1), POSITIONS, slots)
    hidden = _stack().run(_tensor(rows, 1, 1024), at, KeyValueCache(cache, cache))[:, 0]
    rules = RuleRows(_flags(SLOTS), _floats(SLOTS), _counts(SLOTS), _floats(SLOTS))
    counts = _counts(SLOTS)
    state = SamplerState(counts, counts, counts, _flags(SLOTS, VOCABULARY), _floats(SLOTS), rules, rules)
    sampler = TritonFrameSampler(FirstCodebook(EOS, _flags(VOCABULARY), _counts(CODEBOOKS)), state, slots)
    logits = TritonLinear(_tensor(VOCABULARY, 1024), wide=True)(hidden)
    sampler.sample_first(logits)
    sampler.sample(TritonLinear(_tensor(CODES, 1024), wide=True)(hidden), 1)


def _compiled(launch: Launch, capability: int) -> dict[str, object]:
    made = launch.compiled(capability)
    return {
        "kernel": launch.kernel.fn.__name__,
        "capability": capability,
        "shared_bytes": made.metadata.shared,
        "spilled_bytes": _spilled_bytes(made.asm["cubin"]),
        "instruction": sorted(set(re.findall(r"wgmma|mma\.sync", made.asm["ptx"]))),
    }


def _spilled_bytes(cubin: bytes) -> int:
    """What each thread keeps in memory for want of registers."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        said = subprocess.run(
            [tool, "--dump-resource-usage", file], capture_output=True, check=True, text=True
        )
    return sum(int(size) for size in re.findall(r"(?:STACK|LOCAL):(\d+)", said.stdout))


def compiled_kernels(
    capability: int, rows: Sequence[int], names: Collection[str] | None = None
) -> list[dict[str, object]]:
    """Of what compiles to much the same, once. ``names``: else all."""
    launches = [each for count in rows for each in launches_of(partial(frame, count))]
    different = {each.width: each for each in launches}
    return [
        _compiled(launch, capability)
        for (name, _width), launch in different.items()
        if names is None or name in names
    ]
