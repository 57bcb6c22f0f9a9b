"""The transformer on a GPU: what torch computes, and the same bits in any company and in any parts.

M rows · E hidden size.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.ops.table import triton_ops
from makima_tts.model.ops.torch import TorchStack, rms_norm
from makima_tts.model.transformer import (
    KeyValueCache,
    LayerWeights,
    MakeStack,
    PromptRows,
    RotaryEmbedding,
    RowPositions,
    Transformer,
)
from makima_tts.model.triton import linear
from makima_tts.model.triton.transformer import ResidualStream, rotate_and_cache
from tests.checkpoints.models import checkpoint_folder
from tests.kernels.places import DEVICE, DTYPES, numbers

LAYERS = 2
POSITIONS = 64
EPS = 1e-6


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wide blocks: interpreted, a program takes as long as another, however much it computes."""
    if DEVICE.type == "cpu":
        monkeypatch.setattr(linear, "_ENOUGH_PROGRAMS", 1)
    with torch.inference_mode():
        yield


def transformer(shape: str, stack: MakeStack, dtype: torch.dtype = torch.float32) -> Transformer:
    """The talker's first layers, of which the windowed one's look back over a few rows only."""
    checkpoint = Checkpoint.open(checkpoint_folder(shape))
    config, weights = checkpoint.config.talker_config, checkpoint.model_weights(DEVICE, dtype)
    window = 6 if shape == "windowed" else None
    shallow = config.model_copy(update={"num_hidden_layers": LAYERS})
    return Transformer.load(shallow, weights.within("talker.model"), lambda _layer: window, POSITIONS, stack)


def positions(*at: int) -> Tensor:
    return torch.tensor(at, device=DEVICE)


def conversation(stack: Transformer, rows: Tensor) -> tuple[Tensor, KeyValueCache]:
    """Two prompts side by side, then a step of both and the next prompt's rows in one call; rows [9, E]."""
    cache = stack.new_cache(4, POSITIONS)
    prompts = stack.run(rows[:6].view(2, 3, -1), RowPositions(positions(0, 1, 2).expand(2, 3), 3), cache)
    mixed = RowPositions(positions(3, 0, 1, 3)[:, None], 4, positions(1, 3, 3, 0))
    steps = stack.run(rows[5:9, None], mixed, cache)
    return torch.cat((prompts.flatten(0, 1), steps.flatten(0, 1))), cache


def near(made: Tensor, exact: Tensor) -> bool:
    return bool((made - exact).abs().max() < 1e-5 * exact.abs().max())


@pytest.mark.parametrize("shape", ["odd", "wide", "windowed"])
def test_it_computes_what_torch_computes(shape: str) -> None:
    """Prompts, steps, and both in one call; biases, gelu, windows, odd sizes, heads that share keys."""
    by_torch, by_triton = (transformer(shape, stack) for stack in (TorchStack, triton_ops().layers))
    rows = numbers(1, 9, by_torch.config.hidden_size)
    exact, kept = conversation(by_torch, rows)
    made, cache = conversation(by_triton, rows)
    assert near(made, exact)
    assert near(cache.keys, kept.keys)
    assert near(cache.values, kept.values)


# Interpreted, bfloat16 takes long; the kernels' own tests have it.
@pytest.mark.parametrize("dtype", DTYPES if DEVICE.type == "cuda" else DTYPES[:1])
def test_rows_come_together_or_one_by_one_to_the_same_bits(dtype: torch.dtype) -> None:
    """A prompt at once, in parts, beside another and row by row, in any row of the cache."""
    stack = transformer("windowed", triton_ops().layers, dtype)
    rows, other = numbers(2, 6, 64, dtype=dtype), numbers(3, 2, 64, dtype=dtype)
    whole = stack.prefill([PromptRows(rows, 0, 0)], stack.new_cache(1, POSITIONS))
    cache = stack.new_cache(4, POSITIONS)
    parts = [PromptRows(rows[:4], 3, 0), PromptRows(other, 1, 0), PromptRows(rows[4:], 3, 4)]
    assert torch.equal(stack.prefill(parts, cache)[2], whole[0])
    stepped = stack.new_cache(3, POSITIONS)
    stepped.keys[:, 2, :, :4], stepped.values[:, 2, :, :4] = (
        cache.keys[:, 3, :, :4],
        cache.values[:, 3, :, :4],
    )
    for at in (4, 5):
        last = stack.run(
            rows[None, at : at + 1], RowPositions(positions(at)[None], at + 1, positions(2)), stepped
        )
    assert torch.equal(last[0], whole)
    assert torch.equal(stepped.keys[:, 2], cache.keys[:, 3])
    assert torch.equal(stepped.values[:, 2], cache.values[:, 3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "parts"), [(80, 0), (64, 1), (80, 3)])
def test_parts_are_added_to_the_stream_and_it_is_normed(size: int, parts: int, dtype: torch.dtype) -> None:
    source, weight = numbers(1, 3, size, dtype=dtype), numbers(2, size, dtype=dtype)
    summed = numbers(3, parts, 3, size) if parts else None
    bias = numbers(4, size, dtype=dtype) if parts else None
    residual = torch.empty(3, size, device=DEVICE)
    made = ResidualStream(source, residual, summed, bias).norm(weight, EPS)
    exact = source.double()
    if summed is not None and bias is not None:
        exact = exact + summed.double().sum(0) + bias.double()
    normed = exact / (exact.square().mean(1, keepdim=True) + EPS).sqrt() * weight.double()
    assert torch.allclose(residual.double(), exact, atol=1e-5)
    assert torch.allclose(made.double(), normed, atol=1e-5 if dtype == torch.float32 else 5e-2)
    assert made.dtype == dtype


def test_the_stream_can_be_its_own_source() -> None:
    stream, parts, weight = numbers(1, 2, 48), numbers(2, 2, 2, 48), numbers(3, 48)
    expected = stream + parts[0] + parts[1]
    ResidualStream(stream, stream, parts).norm(weight, EPS)
    assert torch.equal(stream, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "key_heads", "size"), [(6, 3, 16), (5, 5, 12)])
def test_heads_are_normed_and_rotated_and_cached(
    heads: int, key_heads: int, size: int, dtype: torch.dtype
) -> None:
    cache_rows, at = torch.tensor([2, 0, 2], device=DEVICE), positions(5, 7, 6)
    rotary = RotaryEmbedding.of(torch.arange(9, device=DEVICE), 10000.0, size)
    fused = numbers(1, 3, (heads + 2 * key_heads) * size, dtype=dtype)
    config = TransformerConfig(
        num_hidden_layers=1, num_attention_heads=heads, num_key_value_heads=key_heads, head_dim=size
    )
    none = torch.empty(0)
    query_norm, key_norm = numbers(2, size, dtype=dtype), numbers(3, size, dtype=dtype)
    weights = LayerWeights(none, none, None, query_norm, key_norm, none, None, none, none, none, None)
    # A layer of a cache: not contiguous, and different in its two parts.
    keys = torch.zeros(3, 9, key_heads, size, device=DEVICE, dtype=dtype).transpose(1, 2)
    values = torch.zeros(3, key_heads, 9, size, device=DEVICE, dtype=dtype)
    rows = RowPositions(at[:, None], 9, cache_rows)
    queries = rotate_and_cache(fused, config, weights, rotary, rows, keys, values)

    query, key, value = torch.split(fused.view(3, -1, size), [heads, key_heads, key_heads], dim=1)
    here = rotary.at(at[:, None], torch.float64)  # [3, 1, 1, D]
    rotate = RotaryEmbedding(here.cos[:, 0], here.sin[:, 0]).rotate
    most = 1e-5 if dtype == torch.float32 else 5e-2
    for made, exact in (
        (queries, rotate(rms_norm(query, query_norm, EPS).double())),
        (keys[cache_rows, :, at], rotate(rms_norm(key, key_norm, EPS).double())),
    ):
        assert torch.allclose(made.double(), exact, atol=most)
    assert torch.equal(values[cache_rows, :, at], value)
    written = values.flatten(2).any(2).any(1)
    assert written.tolist() == [True, False, True]
    assert int(values.any(3).sum()) == 3 * key_heads
