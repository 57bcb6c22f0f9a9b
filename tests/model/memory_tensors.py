"""Weights of tensors that are in memory, instead of a checkpoint's files."""

from collections.abc import Mapping

import torch
from torch import Tensor

from makima_tts.model.checkpoint.tensors import TensorFiles, Weights

CPU = torch.device("cpu")


class MemoryTensors(TensorFiles):
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__("memory", {}, {})
        self._tensors = tensors

    def names(self) -> frozenset[str]:
        return frozenset(self._tensors)

    def shape(self, name: str) -> tuple[int, ...] | None:
        return tuple(self._tensors[name].shape) if name in self._tensors else None

    def read(self, name: str) -> Tensor:
        return self._tensors[name]


def weights_in_memory(
    tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> Weights:
    return Weights(MemoryTensors(tensors), device, dtype)
