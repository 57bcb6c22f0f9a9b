"""In what numbers a model's weights are kept, and which class multiplies by them.

In: a configuration, weights by name. Out: layers and matrices of one kind. Does not know: devices, what is
loaded, what a precision is called.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from makima_tts.model.config import TransformerConfig
from makima_tts.model.layers import LayerStack, Matrix, Product, Transformer
from makima_tts.model.weights import Weights

# Heads decide about codes and are a tenth of the weights: they never have fewer bits.
_HEAD_BITS = 8


@dataclass(frozen=True, slots=True)
class WeightKind:
    """``bits`` 8 or 4: quantized, on a CPU. None: as the weights are taken."""

    bits: int | None = None

    def stack(
        self,
        config: TransformerConfig,
        weights: Weights,
        window_of: Callable[[int], int | None],
        positions: int,
    ) -> LayerStack:
        """``positions``: how many there may be."""
        if self.bits is None:
            return Transformer.load(config, weights, window_of, positions)
        from makima_tts.model.quantized import QuantizedTransformer  # noqa: PLC0415 - compiles, the first time

        return QuantizedTransformer.load(config, weights, window_of, positions, self.bits)

    def head(self, weight: Tensor, bias: Tensor | None = None) -> Product:
        """A single matrix: [outputs, inputs]."""
        if self.bits is None:
            return Matrix(weight, bias)
        from makima_tts.model.native.kernels import QuantizedMatrix  # noqa: PLC0415

        return QuantizedMatrix.pack(weight, _HEAD_BITS, bias)
