"""Models with quantized weights: the same laws as in torch, and near what torch computes in float32.

M rows · E hidden size.
"""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.native.kernels import NativeStack, native_codec_ops
from makima_tts.model.transformer import PromptRows, RowPositions, Transformer
from tests.checkpoints.models import ENDING, POSITIONS, checkpoint_folder, small_model
from tests.model.memory_tensors import weights_in_memory
from tests.model.small_codecs import codec_decoder, codec_weights, decoder_of

SHAPES = ("odd", "wide", "windowed", "deep")
ROWS = 9


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def talker_weights(shape: str) -> Weights:
    checkpoint = Checkpoint.open(checkpoint_folder(shape))
    return checkpoint.model_weights(torch.device("cpu"), torch.float32).within("talker.model")


def quantized(shape: str, bits: int) -> Transformer:
    config = small_model(shape).talker.config
    stack = partial(NativeStack, bits=bits)
    return Transformer.load(config, talker_weights(shape), lambda _layer: config.window, POSITIONS, stack)


def rows_of(shape: str, streams: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(streams, ROWS, small_model(shape).talker.config.hidden_size, generator=generator)


def everything(transformer: Transformer, rows: Tensor) -> Tensor:
    """All rows at once, then each stream's last row once more, in a step of streams 2 and 0."""
    cache = transformer.new_cache(len(rows), 2 * ROWS)
    positions = torch.arange(ROWS).expand(len(rows), ROWS)
    first = transformer.run(rows, RowPositions(positions, ROWS), cache)
    slots = torch.tensor([2, 0])
    step = transformer.run(
        rows[slots, -1:], RowPositions(torch.full((2, 1), ROWS), ROWS + 1, cache_rows=slots), cache
    )
    return torch.cat((first.flatten(0, 1), step.flatten(0, 1)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("bits", "most"), [(16, 0.005), (8, 0.06), (4, 0.6)])
def test_it_computes_what_torch_computes_but_for_rounding(shape: str, bits: int, most: float) -> None:
    """Biases, gelu, windows, odd sizes, heads that share keys: all that a configuration may ask for."""
    exact = everything(small_model(shape).talker.transformer, rows_of(shape))
    made = everything(quantized(shape, bits), rows_of(shape))
    assert (made - exact).square().mean().sqrt() / exact.std() < most


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_rows_come_together_or_one_by_one_and_in_any_slot(bits: int) -> None:
    transformer, rows = quantized("odd", bits), rows_of("odd")
    together = everything(transformer, rows)[: 3 * ROWS].view(3, ROWS, -1)
    cache = transformer.new_cache(5, ROWS)
    for stream, slot in enumerate((4, 1, 3)):
        parts = [
            transformer.run(row[None, None], RowPositions(torch.tensor([[at]]), at + 1), cache.rows(slot, 1))
            for at, row in enumerate(rows[stream])
        ]
        assert torch.equal(torch.cat(parts, dim=1)[0], together[stream])


@pytest.mark.parametrize("shape", ["odd", "wide"])
def test_any_number_of_threads_comes_to_the_same_bits(shape: str) -> None:
    transformer, rows = quantized(shape, 8), rows_of(shape)
    before, made = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            made.append(everything(transformer, rows))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(each, made[0]) for each in made)


def test_prompts_are_read_together_as_they_are_alone() -> None:
    """Of several streams, and several parts of one."""
    transformer, rows = quantized("windowed", 8), rows_of("windowed")
    prompts = [PromptRows(rows[0, :4], 2, 0), PromptRows(rows[1], 0, 0), PromptRows(rows[0, 4:], 2, 4)]
    together = transformer.prefill(prompts, transformer.new_cache(3, ROWS))
    cache = transformer.new_cache(3, ROWS)
    alone = torch.cat([transformer.prefill([each], cache) for each in prompts])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("shape", ["windowed", "odd"])
def test_a_packed_codec_sounds_like_one_in_float32(shape: str) -> None:
    exact = codec_decoder(shape)
    decoder = decoder_of(shape, weights_in_memory(codec_weights(shape)), native_codec_ops())
    generator = torch.Generator().manual_seed(6)
    codes = torch.randint(
        exact.config.codebook_size, (2, 45, exact.config.num_quantizers), generator=generator
    )
    slots = torch.arange(2)
    sound = exact.decode(codes, exact.new_state(2), slots)
    made = decoder.decode(codes, decoder.new_state(2), slots)
    error = (made - sound).double().square().sum()
    assert 10 * torch.log10(sound.double().square().sum() / error) > 45


@pytest.mark.parametrize("seed", range(6))
def test_a_packed_codec_streams_to_the_bit_beside_others(seed: int) -> None:
    """Beyond its window and its ring, from any slot, in chunks of any size."""
    decoder = small_model(ENDING, weight_bits=8).codec
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 45, decoder.config.num_quantizers)
    codes = torch.randint(decoder.config.codebook_size, shape, generator=generator)
    whole = decoder.decode(codes[:1], decoder.new_state(1), torch.tensor([0]))
    state, slots = decoder.new_state(4), torch.tensor([3, 0, 2])
    sizes = torch.randint(1, 9, (20,), generator=generator).cumsum(0)
    parts = torch.tensor_split(codes, sizes[sizes < 45], dim=1)
    sound = [decoder.decode(part, state, slots)[:1] for part in parts]
    assert torch.equal(torch.cat(sound, dim=1), whole)
