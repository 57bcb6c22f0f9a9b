"""The codec's parts, on the GPU if there is one, else for the interpreter.

In: names of shapes. Out: decoders, codes, states in the middle of sounds. Does not know: what is tried on
them.
"""

from functools import cache

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import CODEC_CONFIG, CodecConfig
from makima_tts.model.codec import CodecDecoder, CodecState, LayerByLayer
from makima_tts.model.codec_layers import WaveDecoder
from makima_tts.model.triton.codec import fused
from tests.checkpoints.models import checkpoint_folder
from tests.model.memory_tensors import weights_in_memory
from tests.model.small_codecs import codec_decoder, codec_weights

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def eager(shape: str, dtype: torch.dtype = torch.float32) -> CodecDecoder:
    if DEVICE.type == "cpu":
        return codec_decoder(shape, dtype)
    config = CodecConfig.model_validate_json((checkpoint_folder(shape) / CODEC_CONFIG).read_text())
    weights = weights_in_memory(codec_weights(shape), dtype, DEVICE)
    return CodecDecoder.load(config.decoder_config, weights.within("decoder"))


@cache
def on_gpu(shape: str, dtype: torch.dtype = torch.float32) -> CodecDecoder:
    return fused(eager(shape, dtype))


def layers(shape: str) -> LayerByLayer:
    """Torch's, of the decoder of this shape."""
    found = eager(shape).decoding
    assert isinstance(found, LayerByLayer)
    return found


def wave(shape: str) -> WaveDecoder:
    found = layers(shape).wave
    assert isinstance(found, WaveDecoder)
    return found


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def codes(seed: int, frames: int, shape: str = "windowed", rows: int = 1) -> Tensor:
    """int64 [rows, F, Q]."""
    config, generator = eager(shape).config, torch.Generator().manual_seed(seed)
    size = (rows, frames, config.num_quantizers)
    return torch.randint(config.codebook_size, size, generator=generator).to(DEVICE)


def slots(*numbers: int) -> Tensor:
    return torch.tensor(numbers, device=DEVICE)


@torch.inference_mode()
def used_state(shape: str = "windowed", frames: int = 21) -> CodecState:
    """Of four slots, in the middle of four different sounds."""
    decoder = eager(shape)
    state = decoder.new_state(4)
    decoder.decode(codes(90, frames, shape, rows=4), state, slots(2, 0, 3, 1))
    return state


def copied(state: CodecState) -> CodecState:
    return CodecState(state.position.clone(), state.history.clone(), state.keys_values.clone())


def snr_db(made: Tensor, expected: Tensor) -> float:
    assert made.shape == expected.shape
    error = (made - expected).double().square().sum().clamp(min=1e-30)
    return float(10 * torch.log10(expected.double().square().sum() / error))
