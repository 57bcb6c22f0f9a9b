"""Out of memory: the newest utterance fails with a clear error, and caches are released."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from makima_tts.engines.qwen3 import SynthesisOptions
from makima_tts.engines.qwen3.runner import GeneratedFrames, PendingResult, Runner
from makima_tts.errors import GpuOutOfMemory, SynthesisError, TtsError, TtsUnavailable
from makima_tts.model.language_model import PrefillChunk
from makima_tts.speech import SpeechStream, UtteranceRequest, VoicePrompt
from tests.checkpoints.models import ENDING, small_model
from tests.qwen3.engines import begin, chunks_of, new_loop, running, sound

ROOM_ROWS = 20


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


class Tight(Runner):
    """A runner with memory for this many rows at once."""

    def prefill(self, chunks: Sequence[PrefillChunk]) -> PendingResult[None]:
        if sum(len(chunk.rows) for chunk in chunks) > ROOM_ROWS:
            raise torch.OutOfMemoryError
        return super().prefill(chunks)


class OldestBroken(Runner):
    """A runner that cannot prefill the prompt of the first utterance."""

    def prefill(self, chunks: Sequence[PrefillChunk]) -> PendingResult[None]:
        if any(chunk.slot == 0 for chunk in chunks):
            raise RuntimeError
        return super().prefill(chunks)


@pytest.mark.parametrize(
    ("runner", "failing", "error"), [(Tight, 2, GpuOutOfMemory), (OldestBroken, 0, SynthesisError)]
)
async def test_of_several_newcomers_one_fails_and_the_others_are_prefilled(
    runner: type[Runner], failing: int, error: type[TtsError]
) -> None:
    """If memory does not suffice for all, the newest one fails."""
    model = small_model(ENDING)
    loop = new_loop(runner(model, slots=4, positions=256), model)
    streams = []
    for _ in range(3):
        stream, sink = SpeechStream.create(buffer_samples=24_000)
        stream.feed("The lamps are lit.")
        loop.arrivals.append((UtteranceRequest("utterance", seed=1), sink))
        streams.append(stream)
    assert loop.iterate()
    with pytest.raises(error):
        await anext(streams.pop(failing))
    for stream in streams:
        assert (await anext(stream)).pcm.size


async def test_out_of_memory_releases_voices_which_are_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running("odd", options=SynthesisOptions(max_frames=4)) as engine:
        hidden = small_model("odd").config.talker_config.hidden_size
        voice = VoicePrompt(engine.facts.fingerprint, {"x_vector": torch.linspace(-1, 1, hidden).numpy()})
        whole = sound(await chunks_of(begin(engine, "Who is there?", voice=voice)))
        kept = voice.engine_share.size_bytes
        assert kept

        def no_room(_runner: Runner, _chunks: Sequence[PrefillChunk]) -> PendingResult[None]:
            raise torch.OutOfMemoryError

        with monkeypatch.context() as patch:
            patch.setattr(Runner, "prefill", no_room)
            with pytest.raises(GpuOutOfMemory, match="try again"):
                await chunks_of(begin(engine, "Who is there?"))
        assert voice.engine_share.size_bytes == 0
        again = sound(await chunks_of(begin(engine, "Who is there?", voice=voice)))
        assert np.abs(again - whole).max() < 2**-16  # how chunks are cut decides the last bits
        assert voice.engine_share.size_bytes == kept


@pytest.mark.parametrize("call", ["generate_frames", "prefill"])
async def test_a_device_error_stops_the_engine(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA then answers every call with the same error, and ``/ready`` must report it."""

    def gone(*_given: object) -> PendingResult[GeneratedFrames]:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    async with running(ENDING) as engine:
        monkeypatch.setattr(Runner, call, gone)
        with pytest.raises(TtsUnavailable, match="stopped"):
            await chunks_of(begin(engine, "Who is there?"))
        assert not engine.health().alive
        with pytest.raises(TtsUnavailable, match="stopped"):
            begin(engine, "Who is there?")


async def test_the_drivers_out_of_memory_does_not_stop_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object) -> PendingResult[None]:
        error = torch.AcceleratorError("out of memory")
        vars(error)["error_code"] = 2  # cudaErrorMemoryAllocation
        raise error

    async with running(ENDING) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(Runner, "prefill", full)
            with pytest.raises(GpuOutOfMemory):
                await chunks_of(begin(engine, "Who is there?"))
        assert await chunks_of(begin(engine, "Who is there?"))
