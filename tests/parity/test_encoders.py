"""Both encoders hear in reference audio what the reference package's hear."""

from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from makima_tts.model.reference_audio import prepare_reference
from makima_tts.model.speaker_encoder import mel_filters
from tests.checkpoints import SHAPES
from tests.checkpoints.models import small_model
from tests.parity.encoder_clips import CASES, RESAMPLED, ClipCase, make_clip

GOLDEN = Path(__file__).parent / "golden"
LEAST_COSINE = 0.99999
LEAST_DISTINCT_CODES = 200


@dataclass(frozen=True)
class Heard:
    """``clip``: float32 [samples]. ``codes``: [T, Q] and ``x_vector``: [X] of the reference's."""

    clip: Tensor
    codes: Tensor
    x_vector: Tensor


@cache
def golden(shape: str) -> dict[str, Tensor]:
    return load_file(GOLDEN / f"encoders_{shape}.safetensors")


def heard(shape: str, case: ClipCase) -> Heard:
    kept = golden(shape)
    clip = torch.from_numpy(make_clip(case, int(kept[f"{case.name}.seed"])))
    return Heard(clip, kept[f"{case.name}.codes"].long(), kept[f"{case.name}.x_vector"])


def finished(work: Generator[None, None, Tensor]) -> Tensor:
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Tensor = end.value
            return result


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
@torch.inference_mode()
def test_a_clip_has_the_codes_of_the_reference(shape: str, case: ClipCase) -> None:
    theirs = heard(shape, case)
    ours = finished(small_model(shape).codec_encoder.encode(theirs.clip))
    assert ours.dtype == torch.int64
    assert torch.equal(ours, theirs.codes)


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
@torch.inference_mode()
def test_a_clip_has_the_x_vector_of_the_reference(shape: str, case: ClipCase) -> None:
    theirs = heard(shape, case)
    ours = finished(small_model(shape).speaker_encoder.embed(theirs.clip))
    assert ours.shape == theirs.x_vector.shape
    assert torch.cosine_similarity(ours, theirs.x_vector, dim=0) >= LEAST_COSINE
    assert torch.allclose(ours, theirs.x_vector, rtol=1e-4, atol=1e-4)


def test_the_clips_differ_enough_to_tell_encoders_apart() -> None:
    def distinct(shape: str) -> int:
        codes = torch.cat([golden(shape)[f"{case.name}.codes"][:, 0] for case in CASES])
        return len(set(codes.tolist()))

    assert max(map(distinct, SHAPES)) >= LEAST_DISTINCT_CODES


@pytest.mark.parametrize("rate_hz", sorted(RESAMPLED))
def test_a_clip_of_another_rate_is_resampled_as_the_reference_does(rate_hz: int) -> None:
    case = RESAMPLED[rate_hz]
    theirs = golden("odd")[f"resampled.{case.name}"]
    ours = prepare_reference(make_clip(case, 0), rate_hz)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-6


def test_mel_filters_are_those_of_librosa() -> None:
    kept = golden("odd")
    theirs = np.zeros((128, 513), np.float32)
    theirs[tuple(kept["mel.places"].long().numpy())] = kept["mel.values"].numpy()
    assert np.array_equal(mel_filters(128), theirs)
