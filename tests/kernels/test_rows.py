"""Sums, norms and turned heads on a GPU: what float64 and the eager twin say."""

import pytest
import torch

from makima_tts.model.layers import Rotation
from makima_tts.model.triton.rows import HeadNorms, Places, add_and_norm, place_heads
from tests.kernels.places import DEVICE, DTYPES, numbers

EPS = 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "parts"), [(80, 0), (64, 1), (80, 3)])
def test_parts_are_added_to_the_stream_and_it_is_normed(size: int, parts: int, dtype: torch.dtype) -> None:
    source, weight = numbers(1, 3, size, dtype=dtype), numbers(2, size, dtype=dtype)
    summed = numbers(3, parts, 3, size) if parts else None
    bias = numbers(4, size, dtype=dtype) if parts else None
    residual = torch.empty(3, size, device=DEVICE)
    made = add_and_norm(source, summed, bias, residual, weight, EPS)
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
    add_and_norm(stream, parts, None, stream, weight, EPS)
    assert torch.equal(stream, expected)


def normed(heads: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    wide = heads.double()
    return wide / (wide.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.double()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "key_heads", "size"), [(6, 3, 16), (5, 5, 12)])
def test_heads_are_normed_and_turned_and_go_to_their_places(
    heads: int, key_heads: int, size: int, dtype: torch.dtype
) -> None:
    cache_rows, positions = torch.tensor([2, 0, 2], device=DEVICE), torch.tensor([5, 7, 6], device=DEVICE)
    rotation = Rotation.of(torch.arange(9, device=DEVICE), 10000.0, size)
    fused = numbers(1, 3, (heads + 2 * key_heads) * size, dtype=dtype)
    norms = HeadNorms(heads, key_heads, numbers(2, size, dtype=dtype), numbers(3, size, dtype=dtype), EPS)
    # A layer of a cache: not contiguous, and different in its two parts.
    keys = torch.zeros(3, 9, key_heads, size, device=DEVICE, dtype=dtype).transpose(1, 2)
    values = torch.zeros(3, key_heads, 9, size, device=DEVICE, dtype=dtype)
    places = Places(cache_rows, positions, 9)
    queries = place_heads(fused, norms, rotation, places, keys, values)

    query, key, value = torch.split(fused.view(3, -1, size), [heads, key_heads, key_heads], dim=1)
    at = rotation.at(positions[:, None], torch.float64)  # [3, 1, 1, D]
    turn = Rotation(at.cos[:, 0], at.sin[:, 0]).turn
    most = 1e-5 if dtype == torch.float32 else 5e-2
    assert torch.allclose(queries.double(), turn(normed(query, norms.query)), atol=most)
    assert torch.allclose(keys[cache_rows, :, positions].double(), turn(normed(key, norms.key)), atol=most)
    assert torch.equal(values[cache_rows, :, positions], value)
    written = values.flatten(2).any(2).any(1)
    assert written.tolist() == [True, False, True]
    assert int(values.any(3).sum()) == 3 * key_heads
