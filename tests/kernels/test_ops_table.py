"""Which leaf operations a device gets, and that talker and code predictor are the same with either."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.language_model import CodePredictor, Talker
from makima_tts.model.native.kernels import QuantizedLinear
from makima_tts.model.ops.table import Ops, ops_for, torch_ops, triton_ops
from makima_tts.model.ops.torch import TorchStack
from makima_tts.model.sampling import TorchFrameSampler
from makima_tts.model.transformer import PromptRows, RowPositions
from makima_tts.model.triton import linear
from makima_tts.model.triton.sampler import TritonFrameSampler
from makima_tts.model.triton.transformer import TritonStack
from tests.checkpoints import QUICK, write_checkpoint
from tests.kernels.places import DEVICE, numbers

POSITIONS = 16


def test_kernels_are_for_cuda_devices_and_weights_as_they_are() -> None:
    for device in (torch.device("cpu"), torch.device("mps")):
        assert ops_for(device).sampler is TorchFrameSampler
    assert isinstance(ops_for(torch.device("cpu"), 8).logits(torch.ones(4, 4)), QuantizedLinear)
    if DEVICE.type == "cuda":
        assert ops_for(DEVICE).sampler is TritonFrameSampler


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("quick") / "checkpoint", QUICK))


def families_of(checkpoint: Checkpoint, ops: Ops) -> tuple[Talker, CodePredictor]:
    weights, config = checkpoint.model_weights(DEVICE, torch.float32), checkpoint.config
    talker = Talker.load(config.talker_config, weights.within("talker"), POSITIONS, ops)
    below = weights.within("talker.code_predictor")
    return talker, CodePredictor.load(config.predictor, config.talker_config.hidden_size, below, ops)


def frame_of(talker: Talker, predictor: CodePredictor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A prompt and a step of two streams, and the likeliest codes: logits, codes, their embeddings."""
    cache = talker.transformer.new_cache(2, POSITIONS)
    talker.transformer.prefill([PromptRows(rows[:3], 0, 0), PromptRows(rows[3:5], 1, 0)], cache)
    positions, slots = torch.tensor([[3], [2]], device=DEVICE), torch.tensor([0, 1], device=DEVICE)
    hidden = talker.step(rows[5:7], RowPositions(positions, 4, slots), cache)
    logits = talker.logits(hidden)
    first = logits.argmax(1)
    likeliest: Callable[[Tensor, int], Tensor] = lambda later, _codebook: later.argmax(1)  # noqa: E731
    made = predictor.predict(hidden, first, talker.embedding[first], likeliest, predictor.new_cache(2))
    return logits, *made


def test_a_frame_is_the_same_by_the_kernels_and_by_torch(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    if DEVICE.type == "cpu":
        monkeypatch.setattr(linear, "_ENOUGH_PROGRAMS", 1)  # fewer, and so faster to interpret
    plain, by_kernels = (families_of(checkpoint, ops) for ops in (torch_ops(), triton_ops()))
    assert isinstance(plain[0].transformer.stack, TorchStack)
    assert isinstance(by_kernels[0].transformer.stack, TritonStack)
    assert isinstance(by_kernels[1].transformer.stack, TritonStack)
    rows = numbers(1, 7, checkpoint.config.talker_config.hidden_size)
    logits, codes, embedded = frame_of(*by_kernels, rows)
    expected_logits, expected_codes, expected_embedded = frame_of(*plain, rows)
    assert torch.allclose(logits, expected_logits, atol=1e-4)
    assert torch.equal(codes, expected_codes)
    assert torch.allclose(embedded, expected_embedded, atol=1e-5)
