"""In what numbers a model's weights are kept, and which class multiplies by them.

In: a configuration, weights by name, where they are. Out: layers and matrices of one kind. Does not know:
what is loaded, what a precision is called.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.layers import LayerStack, Matrix, Product, Transformer
from makima_tts.model.triton.availability import kernels_lack

# Heads decide about codes and are a tenth of the weights: they never have fewer bits.
_HEAD_BITS = 8
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WeightKind:
    """``bits`` 8 or 4: quantized, on a CPU. None: as the weights are taken.

    ``kernels``: multiplied by the kernels for GPUs, not by torch; no weight has fewer bits then.
    """

    bits: int | None = None
    kernels: bool = False

    @classmethod
    def on(cls, device: torch.device, bits: int | None = None) -> "WeightKind":
        """The kernels for GPUs, where they run; on a CUDA device without them the log says why."""
        lacking = kernels_lack(device)
        if lacking is not None and device.type == "cuda":
            _log.warning("gpu_kernels_unavailable", lacking=lacking)
        return cls(bits, kernels=bits is None and lacking is None)

    def stack(
        self,
        config: TransformerConfig,
        weights: Weights,
        window_of: Callable[[int], int | None],
        positions: int,
    ) -> LayerStack:
        """``positions``: how many there may be."""
        if self.kernels:
            from makima_tts.model.triton.stack import GpuTransformer  # noqa: PLC0415 - needs Triton

            return GpuTransformer.load(config, weights, window_of, positions)
        if self.bits is None:
            return Transformer.load(config, weights, window_of, positions)
        from makima_tts.model.quantized import QuantizedTransformer  # noqa: PLC0415 - compiles, the first time

        return QuantizedTransformer.load(config, weights, window_of, positions, self.bits)

    def head(self, weight: Tensor) -> Product:
        """A matrix that makes logits, [outputs, inputs]: they may have more bits than rows have."""
        return self._matrix(weight, None, wide=True)

    def matrix(self, weight: Tensor, bias: Tensor | None = None) -> Product:
        """A single matrix, [outputs, inputs], that makes rows of rows."""
        return self._matrix(weight, bias, wide=False)

    def _matrix(self, weight: Tensor, bias: Tensor | None, *, wide: bool) -> Product:
        if self.kernels:
            from makima_tts.model.triton.products import GpuMatrix  # noqa: PLC0415

            return GpuMatrix(weight, bias, wide)
        if self.bits is None:
            return Matrix(weight, bias)
        from makima_tts.model.native.kernels import QuantizedMatrix  # noqa: PLC0415

        return QuantizedMatrix.pack(weight, _HEAD_BITS, bias)
