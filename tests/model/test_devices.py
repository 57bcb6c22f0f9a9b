"""Where a model may run, and how precisely; what is not there is said in words."""

import pytest
import torch

from makima_tts.errors import TtsUnavailable
from makima_tts.model.devices import device_of, dtype_of

CPU = torch.device("cpu")


def test_auto_takes_what_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device_of("auto").type == expected


def test_a_device_is_named_in_any_case() -> None:
    assert device_of(" CPU ") == CPU


@pytest.mark.parametrize("name", ["toaster", "cuda:x", "cuda:99", "meta", ""])
def test_what_is_not_there_is_refused_in_words(name: str) -> None:
    with pytest.raises(TtsUnavailable, match="TTS_DEVICE"):
        device_of(name)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has Metal")
def test_metal_is_mps() -> None:
    with pytest.raises(TtsUnavailable, match=r"TTS_DEVICE=mps .*no Metal"):
        device_of("metal")


def test_precision_is_what_was_asked_for_or_what_the_cpu_is_fast_at() -> None:
    fast = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    assert dtype_of("auto", CPU) == fast
    assert dtype_of("fp32", CPU) == torch.float32
    assert dtype_of("bf16", CPU) == torch.bfloat16
