"""Every way to attend is the eager one; what a row may not see does not matter to it."""

import sys
from unittest import mock

import pytest
import torch
from torch import Tensor

from makima_tts.model.ops.torch import attend, torch_attention
from makima_tts.model.transformer import Attention, RowPositions
from makima_tts.model.triton.attention import (
    flash_attention,
    installed_attentions,
    triton_attention,
)
from tests.kernels.places import DEVICE, DTYPES, numbers

POSITIONS = 150
CACHE_ROWS = torch.tensor([2, 0, 2, 2], device=DEVICE)
AT = RowPositions(torch.tensor([[140], [0], [63], [139]], device=DEVICE), 141, CACHE_ROWS)


def flash_in_torch(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    cache_seqlens: Tensor,
    cache_batch_idx: Tensor,
    causal: bool,
    window_size: tuple[int, int],
    num_splits: int,
) -> Tensor:
    """What the package documents of ``flash_attn_with_kvcache``, as far as it is asked for."""
    assert cache_seqlens.dtype == cache_batch_idx.dtype == torch.int32
    assert causal
    assert num_splits == 1
    left, right = window_size
    assert right == (-1 if left < 0 else 0)
    at = RowPositions(cache_seqlens.long()[:, None] - 1, keys.shape[1])
    mask = at.mask(None if left < 0 else left + 1)
    theirs = keys[cache_batch_idx].transpose(1, 2), values[cache_batch_idx].transpose(1, 2)
    return attend(queries.transpose(1, 2), *theirs, mask).transpose(1, 2)


WAYS = {"triton": triton_attention, "torch": torch_attention, "flash_attn": flash_attention(flash_in_torch)}


def kept(key_heads: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return (
        numbers(1, 3, key_heads, POSITIONS, size, dtype=dtype),
        numbers(2, 3, key_heads, POSITIONS, size, dtype=dtype),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attention", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("heads", [(6, 2, 16), (3, 3, 12)])
@pytest.mark.parametrize("window", [None, 24])
def test_attention_is_the_eager_one(
    attention: Attention, heads: tuple[int, int, int], window: int | None, dtype: torch.dtype
) -> None:
    count, key_heads, size = heads
    queries, (keys, values) = numbers(3, 4, count, size, dtype=dtype), kept(key_heads, size, dtype)
    made = attention(queries, keys, values, AT, window)
    mask = RowPositions(AT.positions, POSITIONS).mask(window)
    exact = attend(
        queries.unsqueeze(2).double(),
        keys[CACHE_ROWS].double(),
        values[CACHE_ROWS].double(),
        mask,
    )[:, :, 0]
    assert torch.allclose(made.double(), exact, atol=2e-6 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_the_same_in_any_company_and_whatever_comes_after_it(dtype: torch.dtype) -> None:
    attention = triton_attention
    queries, (keys, values) = numbers(3, 4, 4, 16, dtype=dtype), kept(2, 16, dtype)
    together = attention(queries, keys, values, AT, 40)
    for row in range(4):
        alone = RowPositions(AT.positions[row : row + 1], POSITIONS, CACHE_ROWS[row : row + 1])
        assert torch.equal(attention(queries[row : row + 1], keys, values, alone, 40)[0], together[row])
    for later in (keys, values):
        later[:, :, 141:] = float("nan")
        later[2, :, :24] = float("nan")  # before the window of the earliest row there
    assert torch.equal(attention(queries, keys, values, AT, 40), together)


def test_flash_attn_is_a_candidate_where_it_is_installed_and_for_its_precisions() -> None:
    package = mock.Mock(flash_attn_with_kvcache=flash_in_torch)
    with mock.patch.dict(sys.modules, {"flash_attn": package}):
        assert list(installed_attentions(torch.float32)) == ["triton"]
        assert list(installed_attentions(torch.bfloat16)) == ["triton", "flash_attn"]
    with mock.patch.dict(sys.modules, {"flash_attn": None}):
        assert list(installed_attentions(torch.bfloat16)) == ["triton"]
