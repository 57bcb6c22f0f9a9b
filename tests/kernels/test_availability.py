"""Where the kernels for GPUs run; and what is said where they do not."""

from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from structlog.testing import capture_logs

from makima_tts.model.ops import table
from makima_tts.model.ops.table import kernels_lack, ops_for
from makima_tts.model.sampling import TorchFrameSampler
from makima_tts.model.triton.sampler import TritonFrameSampler

CUDA = torch.device("cuda", 0)


@pytest.fixture
def card() -> Iterator[mock.Mock]:
    """An NVIDIA card as torch would describe it: its compute capability."""
    with (
        mock.patch.object(torch.version, "cuda", "13.0"),
        mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0)) as capability,
    ):
        yield capability


@pytest.mark.usefixtures("card")
def test_a_card_with_triton_and_a_compiler_runs_them() -> None:
    assert kernels_lack(CUDA) is None
    assert ops_for(CUDA).sampler is TritonFrameSampler


def test_a_cpu_does_not_and_an_old_card_does_not(card: mock.Mock) -> None:
    assert "CUDA" in (kernels_lack(torch.device("cpu")) or "")
    card.return_value = (7, 5)
    assert "Ampere" in (kernels_lack(CUDA) or "")


@pytest.mark.usefixtures("card")
def test_what_is_missing_is_named_in_the_log_and_torch_computes() -> None:
    with mock.patch.object(table, "find_spec", return_value=None):
        assert "triton" in (kernels_lack(CUDA) or "")
    with mock.patch("sysconfig.get_path", return_value="/nowhere"):
        assert "python3-dev" in (kernels_lack(CUDA) or "")
    with (
        mock.patch.dict("os.environ", {"CC": ""}),
        mock.patch("shutil.which", return_value=None),
        capture_logs() as logs,
    ):
        assert ops_for(CUDA).sampler is TorchFrameSampler
    assert [each["event"] for each in logs] == ["gpu_kernels_unavailable"]
    assert "gcc" in logs[0]["lacking"]
