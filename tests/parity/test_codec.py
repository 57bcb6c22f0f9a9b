"""The codec's decoder computes the same audio as the reference package."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from makima_tts.model.codec import CodecDecoder
from tests.checkpoints import SHAPES
from tests.model.small_codecs import codec_decoder

GOLDEN = Path(__file__).parent / "golden"
LEAST_SNR_DB = 90.0
SLOT = torch.tensor([1])


@dataclass(frozen=True)
class Golden:
    """``codes``: [F, Q]; ``samples``: the stored samples of the reference."""

    decoder: CodecDecoder
    codes: Tensor
    samples: Tensor
    sample_count: int
    kept_every: int

    def snr_db(self, ours: Tensor) -> float:
        """Level of the reference's audio over the difference. ``ours``: [1, all samples]."""
        assert ours.shape == (1, self.sample_count)
        error = (ours[0, :: self.kept_every] - self.samples).double()
        return float(10 * torch.log10(self.samples.double().square().sum() / error.square().sum()))


@pytest.fixture(scope="module", params=sorted(SHAPES))
def golden(request: pytest.FixtureRequest) -> Golden:
    """Our codec of this shape, and the audio of the reference."""
    shape: str = request.param
    kept = load_file(GOLDEN / f"codec_{shape}.safetensors")
    sample_count, kept_every = int(kept["sample_count"]), int(kept["kept_every"])
    return Golden(codec_decoder(shape), kept["codes"].long(), kept["samples"], sample_count, kept_every)


def ramp(frames: int) -> list[int]:
    """Chunk sizes of an utterance: one frame first, then growing."""
    sizes = [1, 2, 4, 8]
    while sum(sizes) < frames:
        sizes.append(min(12, frames - sum(sizes)))
    return sizes


@torch.inference_mode()
def test_all_frames_at_once_give_the_audio_of_the_reference(golden: Golden) -> None:
    ours = golden.decoder.decode(golden.codes[None], golden.decoder.new_state(2), SLOT)
    assert golden.snr_db(ours) > LEAST_SNR_DB


@torch.inference_mode()
def test_frames_in_growing_chunks_give_the_audio_of_the_reference(golden: Golden) -> None:
    state = golden.decoder.new_state(2)
    chunks = torch.split(golden.codes[None], ramp(len(golden.codes)), dim=1)
    ours = torch.cat([golden.decoder.decode(chunk, state, SLOT) for chunk in chunks], dim=1)
    assert golden.snr_db(ours) > LEAST_SNR_DB


@torch.inference_mode()
def test_speech_continued_from_a_saved_state_equals_the_reference_on_all_codes(
    golden: Golden,
) -> None:
    reference_frames = len(golden.codes) // 3
    decoder, state, later = golden.decoder, golden.decoder.new_state(2), golden.decoder.new_state(2)
    voice = decoder.decode(golden.codes[None, :reference_frames], state, SLOT)
    later.put_row(1, state.row(1))
    speech = decoder.decode(golden.codes[None, reference_frames:], later, SLOT)
    assert golden.snr_db(torch.cat((voice, speech), dim=1)) > LEAST_SNR_DB
