"""Where a model may run, and how precisely; what is not there is said in words."""

from unittest import mock

import pytest
import torch

from makima_tts.errors import TtsUnavailable
from makima_tts.model.devices import DevicePrecision, device_of, precision_on, settle
from makima_tts.model.native.compiler import PLAIN, instruction_sets

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


def test_cuda_is_the_first_of_its_devices_and_what_is_launched_goes_there() -> None:
    """A thread cannot be set to a device without a number."""
    with mock.patch.object(torch.cuda, "device_count", return_value=2):
        assert device_of("cuda") == torch.device("cuda", 0)
        assert device_of("cuda:1") == torch.device("cuda", 1)
    with mock.patch.object(torch.cuda, "set_device") as chosen:
        for device in ("cuda", "cuda:1", "cpu"):
            settle(torch.device(device))
    assert chosen.call_args_list == [mock.call(0), mock.call(1)]


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has Metal")
def test_metal_is_mps() -> None:
    with pytest.raises(TtsUnavailable, match=r"TTS_DEVICE=mps .*no Metal"):
        device_of("metal")


def test_precision_is_what_was_asked_for_or_what_the_cpu_is_fast_at() -> None:
    auto = precision_on(CPU, "auto", "auto")
    assert auto.name == ("fp32" if instruction_sets()[0] is PLAIN else "int8")
    assert precision_on(CPU, "bf16", "fp32") == DevicePrecision("fp32", torch.float32)
    assert precision_on(CPU, "fp32", "bf16") == DevicePrecision("bf16", torch.bfloat16)
    assert precision_on(CPU, "fp32", "int4").weight_bits == 4
