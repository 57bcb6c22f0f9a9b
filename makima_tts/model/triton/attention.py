"""Rows look at their keys: three ways to do it, and which of them is fastest here.

In: queries, a layer of the cache, where each row is. Out: what each row's queries found. Does not know:
where queries come from, other layers.

M rows · H query heads · K key heads · G = H / K · D head size · R positions of a cache row · L positions
that may be looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.triton.measuring import replayed_ms
from makima_tts.model.triton.rows import Places

_log = structlog.get_logger(__name__)

# Keys at a time, from the first that a row may see: always the same blocks, so always the same bits.
_BLOCK = 64
# The least that tensor cores multiply at once: the queries of one key head are fewer.
_LEAST_QUERIES = 16


class Attention(Protocol):
    """[M, H, D] over keys and values [rows, K, R, D], each row up to its own position → [M, H, D]."""

    @property
    def looks_to_limit(self) -> bool:
        """Every row looks at all positions below the limit, so that a closer one saves time."""

    def __call__(
        self, queries: Tensor, keys: Tensor, values: Tensor, places: Places, window: int | None, /
    ) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class TritonAttention:
    """A row reads its own keys and no more: it needs no limit, and its bits are its own."""

    @property
    def looks_to_limit(self) -> bool:
        return False

    def __call__(
        self, queries: Tensor, keys: Tensor, values: Tensor, places: Places, window: int | None, /
    ) -> Tensor:
        (count, heads, size), key_heads = queries.shape, keys.shape[1]
        out = torch.empty_like(queries)
        _attend[count, key_heads](
            queries,
            keys,
            values,
            places.cache_rows,
            places.positions,
            out,
            *keys.stride()[:3],
            *values.stride()[:3],
            size**-0.5,
            window=window,
            groups=heads // key_heads,
            size=size,
            block_queries=max(_LEAST_QUERIES, triton.next_power_of_2(heads // key_heads)),
            block_keys=_BLOCK,
            block_size=max(16, triton.next_power_of_2(size)),
            # The next keys are under way while these are looked at, where shared memory holds both.
            num_stages=3 if keys.itemsize == 2 else 2,
        )
        return out


@dataclass(frozen=True, slots=True)
class SdpaAttention:
    """torch's own, on any device. Copies what it looks at, and its bits may depend on the company."""

    @property
    def looks_to_limit(self) -> bool:
        return True

    def __call__(
        self, queries: Tensor, keys: Tensor, values: Tensor, places: Places, window: int | None, /
    ) -> Tensor:
        looked_at = torch.arange(places.limit, device=queries.device)
        here = places.positions[:, None]  # [M, 1]
        seen = looked_at <= here  # [M, L]
        if window is not None:
            seen &= looked_at > here - window
        mine, theirs = (
            kept[:, :, : places.limit].index_select(0, places.cache_rows)  # [M, K, L, D]
            for kept in (keys, values)
        )
        found = F.scaled_dot_product_attention(
            queries.unsqueeze(2), mine, theirs, attn_mask=seen[:, None, None], enable_gqa=True
        )  # [M, H, 1, D]
        return found.squeeze(2)


@dataclass(frozen=True, slots=True)
class FlashAttention:
    """That of the package ``flash_attn``; each row a batch of its own, in one pass: its bits are its own."""

    attend: Callable[..., Tensor]

    @classmethod
    def installed(cls) -> "FlashAttention | None":
        try:
            from flash_attn import flash_attn_with_kvcache  # noqa: PLC0415 - an option of the installation
        except ImportError:
            return None
        return cls(flash_attn_with_kvcache)

    @property
    def looks_to_limit(self) -> bool:
        return False

    def __call__(
        self, queries: Tensor, keys: Tensor, values: Tensor, places: Places, window: int | None, /
    ) -> Tensor:
        found = self.attend(
            queries.unsqueeze(1),  # [M, 1, H, D]
            keys.transpose(1, 2),  # [rows, R, K, D]
            values.transpose(1, 2),
            cache_seqlens=(places.positions + 1).int(),
            cache_batch_idx=places.cache_rows.int(),
            causal=True,
            window_size=(-1 if window is None else window - 1, -1 if window is None else 0),
            num_splits=1,
        )
        return found.squeeze(1)


@dataclass(frozen=True, slots=True)
class Example:
    """A call to compare by."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    places: Places
    window: int | None

    @classmethod
    def at_the_end(cls, heads: int, keys: Tensor, values: Tensor, window: int | None) -> "Example":
        """Of as many streams as the cache has rows, each at its last position."""
        rows, positions, device = len(keys), keys.shape[2], keys.device
        queries = keys.new_zeros(rows, heads, keys.shape[-1])
        last = torch.full((rows,), positions - 1, device=device)
        return cls(queries, keys, values, Places(torch.arange(rows, device=device), last, positions), window)


def lawful(dtype: torch.dtype) -> list[Attention]:
    """Those installed here of which no row's bits depend on other rows."""
    flash = FlashAttention.installed() if dtype in (torch.bfloat16, torch.float16) else None
    return [TritonAttention(), *([flash] if flash else [])]


def fastest_attention(candidates: Sequence[Attention], example: Example) -> Attention:
    """Each replayed in a graph, as the model runs it. Without CUDA, and of one alone, the first."""
    if len(candidates) == 1 or example.queries.device.type != "cuda":
        return candidates[0]
    times_ms = [_time_ms(attend, example) for attend in candidates]
    names = [type(attend).__name__ for attend in candidates]
    fastest = min(range(len(candidates)), key=times_ms.__getitem__)
    _log.info("attention_chosen", chosen=names[fastest], times_ms=dict(zip(names, times_ms, strict=True)))
    return candidates[fastest]


def _time_ms(attend: Attention, example: Example) -> float:
    given = (example.queries, example.keys, example.values, example.places, example.window)
    return replayed_ms(partial(attend, *given))


@triton.jit
def _attend(
    queries: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    cache_rows: tl.tensor,
    positions: tl.tensor,
    out: tl.tensor,
    key_row_stride: tl.tensor,
    key_head_stride: tl.tensor,
    key_position_stride: tl.tensor,
    value_row_stride: tl.tensor,
    value_head_stride: tl.tensor,
    value_position_stride: tl.tensor,
    scale: tl.tensor,
    window: tl.constexpr,
    groups: tl.constexpr,
    size: tl.constexpr,
    block_queries: tl.constexpr,
    block_keys: tl.constexpr,
    block_size: tl.constexpr,
) -> None:
    """All queries of one key head of one row; programs are [M, K]. Softmax as it goes, in float32."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place, position = tl.load(cache_rows + row), tl.load(positions + row)
    member, channel = tl.arange(0, block_queries), tl.arange(0, block_size)
    at = ((row * tl.num_programs(1) + head) * groups + member[:, None]) * size + channel[None, :]
    mine = (member[:, None] < groups) & (channel[None, :] < size)
    query = tl.load(queries + at, mask=mine, other=0.0)
    keys += place * key_row_stride + head * key_head_stride
    values += place * value_row_stride + head * value_head_stride
    first = position * 0
    if window is not None:
        first = tl.maximum(position - (window - 1), 0)

    highest = tl.full((block_queries,), float("-inf"), tl.float32)
    total = tl.zeros((block_queries,), tl.float32)
    found = tl.zeros((block_queries, block_size), tl.float32)
    for start in range(first // block_keys * block_keys, position + 1, block_keys):
        looked_at = start + tl.arange(0, block_keys)
        seen = (looked_at >= first) & (looked_at <= position)
        inside = seen[:, None] & (channel[None, :] < size)
        key = tl.load(
            keys + looked_at[:, None] * key_position_stride + channel[None, :], mask=inside, other=0.0
        )
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        shrunk = tl.exp(highest - higher)
        weights = tl.exp(scores - higher[:, None])
        total = total * shrunk + tl.sum(weights, 1)
        value = tl.load(
            values + looked_at[:, None] * value_position_stride + channel[None, :], mask=inside, other=0.0
        )
        found = tl.dot(weights.to(value.dtype), value, found * shrunk[:, None], input_precision="ieee")
        highest = higher
    tl.store(out + at, (found / total[:, None]).to(out.dtype.element_ty), mask=mine)
