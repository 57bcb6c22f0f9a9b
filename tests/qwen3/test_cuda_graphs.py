"""Replays of captured graphs give what eager execution gives: the same codes, the same sound."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from makima_tts.audio import as_float
from makima_tts.engines.qwen3 import cuda_graphs
from makima_tts.engines.qwen3.cuda_graphs import (
    CALL_FRAMES,
    CudaGraphExecutor,
    bucket_of,
    bucket_sizes,
    call_sizes,
    split_frames,
)
from makima_tts.engines.qwen3.runner import Runner, SlotBuffers
from makima_tts.engines.qwen3.scheduler import CHUNK_FRAMES
from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.codec_ops import MAX_FRAMES
from makima_tts.model.prompt import VoiceRows, split_into_chunks
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from tests.checkpoints.models import checkpoint_folder, small_model
from tests.qwen3.recording import HostLooked, everything_captured, no_glances, not_captured, recorded

SLOTS = 3
POSITIONS = 300
TEXTS = ("The lamps are lit.", "Who is there?", "A longer text than the others, to be read for longer.")
FRAMES = 13


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def captured() -> Runner:
    """A runner of recorded graphs that is used again: its earlier state changes nothing."""
    with torch.inference_mode(), everything_captured():
        return new_runner()


def new_runner() -> Runner:
    return Runner(small_model("windowed"), slots=SLOTS, positions=POSITIONS)


def begin(runner: Runner, slots: Sequence[int]) -> dict[int, int]:
    """A text in each slot; returns the positions of their next rows."""
    model, positions = small_model("windowed"), {}
    parts = []
    for slot in slots:
        prompt = model.prompts.write(model.tokenizer.encode(TEXTS[slot]), "English", VoiceRows())
        runner.begin(slot, Sampling.of(model.config.generation), slot, {})
        parts += runner.prefill_chunks(slot, prompt)
        positions[slot] = len(prompt.rows)
    runner.prefill(parts).wait()
    return positions


def spoken(runner: Runner, company: Sequence[Sequence[int]]) -> dict[int, npt.NDArray[np.float32]]:
    """``company``: the slots that run in each of FRAMES steps → samples of each slot, decoded at the end."""
    slots = sorted({slot for turn in company for slot in turn})
    positions, made = begin(runner, slots), dict.fromkeys(slots, 0)
    sound: dict[int, list[npt.NDArray[np.float32]]] = {slot: [] for slot in slots}
    for turn in company:
        stepped = [slot for slot in turn if made[slot]]
        runner.generate_frames(
            turn, stepped, max(positions[slot] for slot in turn), [made[slot] % 12 for slot in turn]
        ).wait()
        for slot in turn:
            positions[slot] += slot in stepped
            made[slot] += 1
        for slot in turn:
            if made[slot] % 12 == 0 or made[slot] == FRAMES:
                heard = runner.decode([slot], made[slot] % 12 or 12).wait()
                assert heard.finite.all()
                sound[slot].append(as_float(heard.pcm[0]))
    return {slot: np.concatenate(parts) for slot, parts in sound.items() if parts}


def assert_same_sound(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> None:
    """Within a step of 16 bits: other codes would give a very different signal."""
    assert one.size == other.size
    assert np.abs(one - other).max() < 1.1 / 32767
    assert np.abs(one).max() > 100 / 32767


def test_replayed_graphs_give_what_eager_execution_gives(captured: Runner) -> None:
    company = [[0, 1, 2]] * FRAMES
    direct, replayed = spoken(new_runner(), company), spoken(captured, company)
    for slot in range(SLOTS):
        assert_same_sound(replayed[slot], direct[slot])


def test_a_stream_is_the_same_whatever_fills_up_its_batch(captured: Runner) -> None:
    alone = spoken(captured, [[1]] * FRAMES)[1]
    late = [[1]] * 4 + [[0, 1]] * 5 + [[0, 1, 2]] * 4
    assert_same_sound(spoken(captured, late)[1], alone)


def assert_decoded_together_as_each_alone(runner: Runner) -> None:
    sounds = []
    for together in (False, True):
        positions = begin(runner, [0, 1, 2])
        for number in range(5):
            furthest = max(positions.values()) + number
            runner.generate_frames([0, 1, 2], [0, 1, 2] if number else [], furthest, [number] * 3).wait()
        if together:
            sounds.append(runner.decode([0, 1, 2], 5).wait().pcm)
        else:
            sounds.append(np.concatenate([runner.decode([slot], 5).wait().pcm for slot in range(3)]))
    assert np.abs(as_float(sounds[0]) - as_float(sounds[1])).max() < 1.1 / 32767


def test_several_streams_are_decoded_together_as_each_alone(captured: Runner) -> None:
    assert_decoded_together_as_each_alone(captured)


def test_streams_that_do_not_fit_into_one_call_are_decoded_in_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cuda_graphs, "CALL_FRAMES", 8)  # two streams of four frames
    with everything_captured():
        assert_decoded_together_as_each_alone(new_runner())


def test_capturing_reports_progress_and_leaves_no_trace_in_a_slot() -> None:
    model, told = small_model("windowed"), list[float]()
    buffers = SlotBuffers.allocate(model, SLOTS, POSITIONS)
    with no_glances():
        CudaGraphExecutor(model, buffers, recorded, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    for kept in (
        buffers.frames.cache.keys[:, :SLOTS],
        buffers.codec.conv_state[:SLOTS],
        buffers.codes[:SLOTS],
    ):
        assert not kept.any()


def test_captured_work_reads_no_value_on_the_host_and_mixes_no_devices() -> None:
    """Tensors of the meta device have no values, and no other device can be mixed with it."""
    checkpoint = Checkpoint.open(checkpoint_folder("windowed"))
    model = SpeechModel.load(checkpoint, torch.device("meta"), torch.bfloat16, positions=POSITIONS)
    buffers = SlotBuffers.allocate(model, 2, 200)
    graphs = CudaGraphExecutor(model, buffers, lambda work: (work(), work)[1], prefill_rows=(16, 64))
    prompt = model.prompts.write(model.tokenizer.encode(TEXTS[0]), "English", VoiceRows())
    model.frames.begin_utterance(buffers.frames, 1, Sampling.of(model.config.generation), 5)
    graphs.prefill(split_into_chunks(prompt, 1, graphs.most_rows))
    graphs.generate_frames([0, 1], [0], 200, [3, 0])
    assert sum(call.frames for call in graphs.decode([1], 5)) == 5


def test_work_that_reads_a_value_on_the_host_cannot_be_recorded() -> None:
    number = torch.ones(3)
    with pytest.raises(HostLooked):
        recorded(lambda: number * number.sum().item())


def test_every_shape_that_can_come_has_a_graph() -> None:
    keys: list[Callable[[], object]] = []

    def counted(work: Callable[[], object]) -> Callable[[], object]:
        keys.append(work)
        return not_captured(work)

    model = small_model("windowed")
    buffers = SlotBuffers.allocate(model, SLOTS, POSITIONS)
    graphs = CudaGraphExecutor(model, buffers, counted)
    for frames in range(1, CHUNK_FRAMES[-1] + 1):
        for count in range(1, SLOTS + 1):
            decoded = list(graphs.decode(list(range(count)), frames))
            assert sum(call.frames for call in decoded) == frames
    assert len(keys) == len(set(map(id, keys)))


@pytest.mark.parametrize("most", [1, 2, 8, 9, 16, 100, 256])
def test_a_bucket_holds_what_there_is_and_is_never_filled_up_by_more_than_half(most: int) -> None:
    sizes = bucket_sizes(most)
    assert sizes == tuple(sorted(set(sizes)))
    for count in range(1, most + 1):
        size = bucket_of(count, sizes)
        assert count <= size < 2 * count or count == size == 1
    with pytest.raises(ValueError, match="largest"):
        bucket_of(most + 1, sizes)


def test_frames_are_split_into_calls_that_the_codec_can_take() -> None:
    for frames in range(1, 40):
        turns = split_frames(frames)
        assert sum(turns) == frames
        assert max(turns) <= MAX_FRAMES
        assert all(call_sizes(turn, 256)[-1] * turn <= CALL_FRAMES for turn in turns)
