"""The codec's parts, on the GPU if there is one, else for the interpreter.

In: names of shapes. Out: decoders, codes, states in the middle of streams. Does not know: what is tried on
them.
"""

from functools import cache

import torch
from torch import Tensor

from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.codec import CodecDecoder
from makima_tts.model.codec_ops import CodecState, torch_codec_ops
from makima_tts.model.triton.codec import triton_codec_ops
from tests.model.memory_tensors import weights_in_memory
from tests.model.small_codecs import codec_decoder, codec_weights, decoder_of

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def weights_of(shape: str, dtype: torch.dtype = torch.float32) -> Weights:
    return weights_in_memory(codec_weights(shape), dtype, DEVICE)


@cache
def in_torch(shape: str, dtype: torch.dtype = torch.float32) -> CodecDecoder:
    if DEVICE.type == "cpu":
        return codec_decoder(shape, dtype)
    return decoder_of(shape, weights_of(shape, dtype), torch_codec_ops())


@cache
def in_triton(shape: str, dtype: torch.dtype = torch.float32) -> CodecDecoder:
    return decoder_of(shape, weights_of(shape, dtype), triton_codec_ops())


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def codes(seed: int, frames: int, shape: str = "windowed", rows: int = 1) -> Tensor:
    """int64 [rows, F, Q]."""
    config, generator = in_torch(shape).config, torch.Generator().manual_seed(seed)
    size = (rows, frames, config.num_quantizers)
    return torch.randint(config.codebook_size, size, generator=generator).to(DEVICE)


def slots(*numbers: int) -> Tensor:
    return torch.tensor(numbers, device=DEVICE)


@torch.inference_mode()
def used_state(shape: str = "windowed", frames: int = 21) -> CodecState:
    """Of four slots, in the middle of four different streams."""
    decoder = in_torch(shape)
    state = decoder.new_state(4)
    decoder.decode(codes(90, frames, shape, rows=4), state, slots(2, 0, 3, 1))
    return state


def copied(state: CodecState) -> CodecState:
    return CodecState(state.position.clone(), state.conv_state.clone(), state.keys_values.clone())


def snr_db(made: Tensor, expected: Tensor) -> float:
    assert made.shape == expected.shape
    error = (made - expected).double().square().sum().clamp(min=1e-30)
    return float(10 * torch.log10(expected.double().square().sum() / error))
