"""The same model on a GPU: the CPU's codes in fp32, and laws of its own that hold to the last bit.

Where there is no GPU nothing of this runs; what can be shown without one is in tests/kernels and
tests/qwen3/test_captured.py.
"""

import asyncio
from collections.abc import Iterator, Sequence
from functools import cache
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import torch

from makima_tts.audio import as_float
from makima_tts.engines.qwen3 import ModelChoice, Qwen3Engine, cuda_graphs
from makima_tts.engines.qwen3.cuda_graphs import CudaGraphExecutor
from makima_tts.engines.qwen3.runner import Runner
from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.prompt import VoiceRows
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.voice_encoding import encode_voice
from makima_tts.speech import AudioChunk, VoiceReference
from tests.checkpoints import SHAPES
from tests.checkpoints.models import ENDING, POSITIONS, checkpoint_folder, small_model
from tests.qwen3.engines import begin, chunks_of
from tests.qwen3.recording import not_captured

FRAMES = 40
SLOTS = 5
TEXTS = (
    "The lamps are lit, and the keeper climbs the stairs.",
    "Who is there?",
    "Nobody.",
    "The harbour lies still.",
    "A longer text than all of the others, which takes its time to be said.",
)
NUMBERS = [torch.float32, torch.bfloat16]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@cache
def on_gpu(shape: str, dtype: torch.dtype = torch.float32) -> SpeechModel:
    checkpoint = Checkpoint.open(checkpoint_folder(shape))
    return SpeechModel.load(checkpoint, torch.device("cuda"), dtype, positions=POSITIONS)


def new_runner(model: SpeechModel) -> Runner:
    return Runner(model, slots=SLOTS, positions=POSITIONS)


def spoken(
    runner: Runner, model: SpeechModel, slots: Sequence[int], *, greedy: bool = False, frames: int = FRAMES
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Slots speak their texts together → codes [slots, frames, Q] and sound [slots, samples]."""
    furthest = 0
    for slot in slots:
        prompt = model.prompts.write(model.tokenizer.encode(TEXTS[slot % len(TEXTS)]), "English", VoiceRows())
        runner.begin(slot, Sampling.of(model.config.generation, greedy=greedy), slot, {})
        runner.prefill(runner.prefill_chunks(slot, prompt)).wait()
        furthest = max(furthest, len(prompt.rows))
    codes, sound = [], []
    for number in range(frames):
        stepped = slots if number else []
        codes.append(runner.generate_frames(slots, stepped, furthest + number, [0] * len(slots)).wait().codes)
        sound.append(as_float(runner.decode(slots, 1).wait().pcm))
    return np.stack(codes, axis=1), np.concatenate(sound, axis=1)


def signal_to_noise_db(exact: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    error = np.square(exact - other).sum(dtype=np.float64)
    return float(10 * np.log10(np.square(exact).sum(dtype=np.float64) / max(error, 1e-30)))


@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "sampled"])
@pytest.mark.parametrize("shape", SHAPES)
def test_fp32_codes_are_the_cpus_and_the_sound_is_the_same(shape: str, greedy: bool) -> None:
    model, exact = on_gpu(shape), small_model(shape)
    codes, sound = spoken(new_runner(model), model, [0], greedy=greedy)
    expected_codes, expected = spoken(new_runner(exact), exact, [0], greedy=greedy)
    assert np.array_equal(codes, expected_codes)
    # What 16 bits leave of it is in this, too.
    assert signal_to_noise_db(expected, sound) > 60


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_replayed_graphs_make_what_their_launches_make_to_the_last_bit(dtype: torch.dtype) -> None:
    model = on_gpu("odd", dtype)
    with mock.patch.object(cuda_graphs, "CudaCapture", return_value=not_captured):
        direct = new_runner(model)
    assert isinstance(direct._executor, CudaGraphExecutor)
    replayed = new_runner(model)
    for made, expected in zip(
        spoken(replayed, model, range(SLOTS)), spoken(direct, model, range(SLOTS)), strict=True
    ):
        assert np.array_equal(made, expected)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_a_bucket_that_is_filled_up_and_one_of_many_rows_change_nobody(dtype: torch.dtype) -> None:
    """Three speak in a bucket of four; and more than one block of rows in one of ninety-six."""
    model = on_gpu("odd", dtype)
    alone, _sound = spoken(new_runner(model), model, [2], frames=12)
    for slots, speaking in ((5, 3), (96, 70)):
        runner = Runner(model, slots=slots, positions=128)
        together, _sound = spoken(runner, model, range(speaking), frames=12)
        assert np.array_equal(together[2], alone[0])


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_an_utterance_that_comes_and_speaks_never_makes_the_host_wait_for_the_device() -> None:
    """But for what it asks for; waiting for an event is no such thing."""
    model = on_gpu("odd", torch.bfloat16)
    runner = new_runner(model)
    prompt = model.prompts.write(model.tokenizer.encode(TEXTS[0]), "English", VoiceRows())
    runner.prefill(runner.prefill_chunks(0, prompt)).wait()
    constant, codec = runner.prefix(0, len(prompt.voice_prefix)), model.codec.new_state(1).row(0)
    try:
        torch.cuda.set_sync_debug_mode("error")
        prompt = model.prompts.write(model.tokenizer.encode(TEXTS[0]), "English", VoiceRows())
        runner.begin(1, Sampling.of(model.config.generation), 7, codec)
        runner.restore_prefix(1, constant)
        runner.prefill(runner.prefill_chunks(1, prompt, prefix_cached=True))
        made = runner.generate_frames([1], [], len(prompt.rows), [0])
        sound = runner.decode([1], 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.wait().codes.shape[0] == len(sound.wait().pcm) == 1


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("shape", ["odd", "windowed"])
def test_a_stream_is_the_same_alone_and_in_company_to_the_last_code(shape: str, dtype: torch.dtype) -> None:
    model = on_gpu(shape, dtype)
    runner = new_runner(model)
    together, sound = spoken(runner, model, range(SLOTS))
    for slot in range(SLOTS):
        codes, alone = spoken(runner, model, [slot])
        assert np.array_equal(codes[0], together[slot])
        assert signal_to_noise_db(alone[0], sound[slot]) > 60


@pytest.mark.parametrize("frames", [1, 3, 8])
@pytest.mark.parametrize("shape", ["odd", "deep"])
def test_frames_decoded_a_few_at_a_time_are_the_sound_of_all_at_once(shape: str, frames: int) -> None:
    model = on_gpu(shape)
    made = torch.Generator().manual_seed(frames)
    codebooks, size = model.config.codec.decoder_config.num_quantizers, 500
    codes = torch.randint(0, size, (2, 24, codebooks), generator=made).to("cuda")
    slots, whole, parts = (
        torch.tensor([1, 0], device="cuda"),
        model.codec.new_state(2),
        model.codec.new_state(2),
    )
    expected = model.codec.decode(codes, whole, slots).cpu().numpy()
    pieces = [model.codec.decode(some, parts, slots) for some in torch.split(codes, frames, dim=1)]
    assert signal_to_noise_db(expected, torch.cat(pieces, dim=1).cpu().numpy()) > 80


@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_makes_finite_sound(shape: str) -> None:
    model = on_gpu(shape, torch.bfloat16)
    _codes, sound = spoken(new_runner(model), model, [0])
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() > 0


async def test_an_engine_speaks_cancels_and_ends_on_a_gpu() -> None:
    choice = ModelChoice(str(checkpoint_folder(ENDING)), device="cuda", precision="fp32")
    engine = Qwen3Engine(choice, streams=3, admission="slots")
    await engine.start(lambda *_: None)
    try:
        alone = sound_of(await chunks_of(begin(engine, *TEXTS[:2], seed=3)))
        company = [begin(engine, *TEXTS[1:], seed=seed) for seed in (1, 2)]
        together = asyncio.create_task(chunks_of(begin(engine, *TEXTS[:2], seed=3)))
        for stream in company:
            await anext(stream)
            stream.cancel()
        spoken_beside = sound_of(await together)
        assert spoken_beside.size == alone.size
        assert signal_to_noise_db(alone, spoken_beside) > 60
        assert engine.health().active == 0
    finally:
        await engine.close()


def sound_of(chunks: Sequence[AudioChunk]) -> npt.NDArray[np.float32]:
    return np.concatenate([as_float(chunk.pcm) for chunk in chunks])


def test_a_voice_is_encoded_as_on_a_cpu() -> None:
    tone = (0.3 * np.sin(np.arange(96_000) * 0.05)).astype(np.float32)
    reference = VoiceReference(tone, 24_000, "What is said in it.", "English", "icl")
    ours, expected = (_encoded(model, reference) for model in (on_gpu("odd"), small_model("odd")))
    assert set(ours) == set(expected)
    for name, array in expected.items():
        assert np.allclose(ours[name], array, atol=1e-3), name


def _encoded(model: SpeechModel, reference: VoiceReference) -> dict[str, npt.NDArray[np.generic]]:
    slices = encode_voice(model, reference)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            voice: dict[str, npt.NDArray[np.generic]] = end.value
            return voice
