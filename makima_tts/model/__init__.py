"""Qwen3-TTS as computation: modules and weights, streaming state as values, no scheduling.

In: a checkpoint folder, token ids, codes, sound. Out: the same in other forms. Does not know: threads,
utterances, slots' owners, time.
"""

from typing import Literal

Precision = Literal["auto", "fp32", "bf16"]
CpuPrecision = Literal["auto", "fp32", "bf16", "int8", "int4"]

__all__ = ["CpuPrecision", "Precision"]
