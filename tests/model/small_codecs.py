"""The codec decoders of the small checkpoints.

In: the name of a shape. Out: its decoder, its weights. Does not know: what is tried on them.
"""

import tempfile
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from makima_tts.model.checkpoint.config import CODEC_CONFIG, CODEC_WEIGHTS, CodecConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.codec import CodecDecoder
from makima_tts.model.codec_ops import CodecOps, X, torch_codec_ops
from tests.checkpoints import SHAPES, write_checkpoint
from tests.model.memory_tensors import weights_in_memory


@cache
def _codec(shape: str) -> tuple[CodecConfig, dict[str, Tensor]]:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(Path(folder), SHAPES[shape])
        config = CodecConfig.model_validate_json((checkpoint / CODEC_CONFIG).read_text())
        return config, load_file(checkpoint / CODEC_WEIGHTS)


def codec_weights(shape: str) -> dict[str, Tensor]:
    """By their full names."""
    return dict(_codec(shape)[1])


def decoder_of(shape: str, weights: Weights, ops: CodecOps[X]) -> CodecDecoder:
    """A decoder of this shape with weights of the caller's."""
    return CodecDecoder.load(_codec(shape)[0].decoder_config, weights.within("decoder"), ops)


@cache
def codec_decoder(shape: str, dtype: torch.dtype = torch.float32) -> CodecDecoder:
    """The one that the reference package would load."""
    return decoder_of(shape, weights_in_memory(codec_weights(shape), dtype), torch_codec_ops())
