"""The transformer on a GPU: what torch computes, and the same bits in any company and in any parts.

M rows · E hidden size.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.layers import KeyValueCache, Passage, Span, Transformer
from makima_tts.model.triton import products
from makima_tts.model.triton.attention import TritonAttention
from makima_tts.model.triton.stack import GpuTransformer
from tests.checkpoints.models import checkpoint_folder
from tests.kernels.places import DEVICE, DTYPES, numbers

LAYERS = 2
POSITIONS = 64


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wide blocks: interpreted, a program takes as long as another, however much it computes."""
    if DEVICE.type == "cpu":
        monkeypatch.setattr(products, "_ENOUGH_PROGRAMS", 1)
    with torch.inference_mode():
        yield


def eager(shape: str, dtype: torch.dtype = torch.float32) -> Transformer:
    """The talker's first layers, of which the windowed one's look back over a few rows only."""
    checkpoint = Checkpoint.open(checkpoint_folder(shape))
    config, weights = checkpoint.config.talker_config, checkpoint.model_weights(DEVICE, dtype)
    window = 6 if shape == "windowed" else None
    shallow = config.model_copy(update={"num_hidden_layers": LAYERS})
    return Transformer.load(shallow, weights.within("talker.model"), lambda _layer: window, POSITIONS)


def on_gpu(shape: str, dtype: torch.dtype = torch.float32) -> GpuTransformer:
    return GpuTransformer.of(eager(shape, dtype), TritonAttention())


def positions(*at: int) -> Tensor:
    return torch.tensor(at, device=DEVICE)


def conversation(stack: Transformer | GpuTransformer, rows: Tensor) -> tuple[Tensor, KeyValueCache]:
    """Two prompts side by side, then a step of both and the next prompt's rows in one call; rows [9, E]."""
    cache = stack.new_cache(4, POSITIONS)
    prompts = stack.run(rows[:6].view(2, 3, -1), Span(positions(0, 1, 2).expand(2, 3), 3), cache)
    mixed = Span(positions(3, 0, 1, 3)[:, None], 4, positions(1, 3, 3, 0))
    steps = stack.run(rows[5:9, None], mixed, cache)
    return torch.cat((prompts.flatten(0, 1), steps.flatten(0, 1))), cache


def near(made: Tensor, exact: Tensor) -> bool:
    return bool((made - exact).abs().max() < 1e-5 * exact.abs().max())


@pytest.mark.parametrize("shape", ["odd", "wide", "windowed"])
def test_it_computes_what_torch_computes(shape: str) -> None:
    """Prompts, steps, and both in one call; biases, gelu, windows, odd sizes, heads that share keys."""
    rows = numbers(1, 9, eager(shape).config.hidden_size)
    exact, kept = conversation(eager(shape), rows)
    made, cache = conversation(on_gpu(shape), rows)
    assert near(made, exact)
    assert near(cache.keys, kept.keys)
    assert near(cache.values, kept.values)


# Interpreted, bfloat16 takes long; the kernels' own tests have it.
@pytest.mark.parametrize("dtype", DTYPES if DEVICE.type == "cuda" else DTYPES[:1])
def test_rows_come_together_or_one_by_one_to_the_same_bits(dtype: torch.dtype) -> None:
    """A prompt at once, in parts, beside another and row by row, in any row of the cache."""
    stack = on_gpu("windowed", dtype)
    rows, other = numbers(2, 6, 64, dtype=dtype), numbers(3, 2, 64, dtype=dtype)
    whole = stack.read([Passage(rows, 0, 0)], stack.new_cache(1, POSITIONS))
    cache = stack.new_cache(4, POSITIONS)
    parts = [Passage(rows[:4], 3, 0), Passage(other, 1, 0), Passage(rows[4:], 3, 4)]
    assert torch.equal(stack.read(parts, cache)[2], whole[0])
    stepped = stack.new_cache(3, POSITIONS)
    stepped.keys[:, 2, :, :4], stepped.values[:, 2, :, :4] = (
        cache.keys[:, 3, :, :4],
        cache.values[:, 3, :, :4],
    )
    for at in (4, 5):
        last = stack.run(rows[None, at : at + 1], Span(positions(at)[None], at + 1, positions(2)), stepped)
    assert torch.equal(last[0], whole)
    assert torch.equal(stepped.keys[:, 2], cache.keys[:, 3])
    assert torch.equal(stepped.values[:, 2], cache.values[:, 3])
