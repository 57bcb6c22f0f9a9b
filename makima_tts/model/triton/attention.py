"""Attention over the static cache in Triton and by flash_attn.

In: queries, a layer of the cache, the position of each row. Out: what each row attends to. Does not know:
where queries come from, other layers.

M rows · H query heads · K key heads · G = H / K · D head size · R positions of a cache row.

With either, a row reads its own keys only, and its bits do not depend on other rows.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.transformer import Attention, RowPositions

# Keys at a time, in blocks aligned to it: the same blocks for a row in any call, so the same bits.
_BLOCK = 64
# The least that tensor cores multiply at once: the queries of one key head are fewer.
_LEAST_QUERIES = 16


def triton_attention(
    queries: Tensor, keys: Tensor, values: Tensor, at: RowPositions, window: int | None
) -> Tensor:
    (count, heads, size), key_heads = queries.shape, keys.shape[1]
    out = torch.empty_like(queries)
    _attention_kernel[count, key_heads](
        queries, keys, values, at.cache_rows, at.positions, out,
        *keys.stride()[:3], *values.stride()[:3], size**-0.5,
        WINDOW=window, GROUPS=heads // key_heads, HEAD_SIZE=size,
        BLOCK_G=max(_LEAST_QUERIES, triton.next_power_of_2(heads // key_heads)), BLOCK_R=_BLOCK,
        BLOCK_D=max(16, triton.next_power_of_2(size)),
        # The next keys are loaded during the products of these, where shared memory holds both.
        num_stages=3 if keys.itemsize == 2 else 2,
    )  # fmt: skip
    return out


def flash_attention(attend: Callable[..., Tensor]) -> Attention:
    """By ``flash_attn_with_kvcache``, each row a batch row of its own, in one pass: as alone, to the bit."""

    def attention(
        queries: Tensor, keys: Tensor, values: Tensor, at: RowPositions, window: int | None
    ) -> Tensor:
        if at.cache_rows is None:
            raise ValueError("rows of a call must name their rows of the cache")
        attended = attend(
            queries.unsqueeze(1),  # [M, 1, H, D]
            keys.transpose(1, 2),  # [rows, R, K, D]
            values.transpose(1, 2),
            cache_seqlens=(at.positions.flatten() + 1).int(),
            cache_batch_idx=at.cache_rows.int(),
            causal=True,
            window_size=(-1 if window is None else window - 1, -1 if window is None else 0),
            num_splits=1,
        )
        return attended.squeeze(1)

    return attention


def installed_attentions(dtype: torch.dtype) -> dict[str, Attention]:
    """By name; ours first."""
    found: dict[str, Attention] = {"triton": triton_attention}
    if dtype in (torch.bfloat16, torch.float16):
        try:
            from flash_attn import flash_attn_with_kvcache  # noqa: PLC0415 - an option of the installation
        except ImportError:
            return found
        found["flash_attn"] = flash_attention(flash_attn_with_kvcache)
    return found


@triton.jit
def _attention_kernel(
    q_ptr, k_ptr, v_ptr, cache_rows_ptr, positions_ptr, out_ptr,
    stride_k_b, stride_k_h, stride_k_r, stride_v_b, stride_v_h, stride_v_r, scale,
    WINDOW: tl.constexpr, GROUPS: tl.constexpr, HEAD_SIZE: tl.constexpr, BLOCK_G: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """All queries of one key head of one row; programs are [M, K]. Softmax as it goes, in float32."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    cache_row, position = tl.load(cache_rows_ptr + row), tl.load(positions_ptr + row)
    offs_g, offs_d = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK_D)
    offs_q = ((row * tl.num_programs(1) + head) * GROUPS + offs_g[:, None]) * HEAD_SIZE + offs_d[None, :]
    mask_q = (offs_g[:, None] < GROUPS) & (offs_d[None, :] < HEAD_SIZE)
    q = tl.load(q_ptr + offs_q, mask=mask_q, other=0.0)
    k_ptr += cache_row * stride_k_b + head * stride_k_h
    v_ptr += cache_row * stride_v_b + head * stride_v_h
    first = position * 0
    if WINDOW is not None:
        first = tl.maximum(position - (WINDOW - 1), 0)

    running_max = tl.full((BLOCK_G,), float("-inf"), tl.float32)
    denominator = tl.zeros((BLOCK_G,), tl.float32)
    acc = tl.zeros((BLOCK_G, BLOCK_D), tl.float32)
    for start in range(first // BLOCK_R * BLOCK_R, position + 1, BLOCK_R):
        offs_r = start + tl.arange(0, BLOCK_R)
        mask_r = (offs_r >= first) & (offs_r <= position)
        mask = mask_r[:, None] & (offs_d[None, :] < HEAD_SIZE)
        k = tl.load(k_ptr + offs_r[:, None] * stride_k_r + offs_d[None, :], mask=mask, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        scores = tl.where(mask_r[None, :], scores, float("-inf"))
        new_max = tl.maximum(running_max, tl.max(scores, 1))
        rescale = tl.exp(running_max - new_max)
        p = tl.exp(scores - new_max[:, None])
        denominator = denominator * rescale + tl.sum(p, 1)
        v = tl.load(v_ptr + offs_r[:, None] * stride_v_r + offs_d[None, :], mask=mask, other=0.0)
        acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision="ieee")
        running_max = new_max
    tl.store(out_ptr + offs_q, (acc / denominator[:, None]).to(out_ptr.dtype.element_ty), mask=mask_q)
