"""When memory does not suffice: the newest fails, in words, and what can be had again is let go."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from makima_tts.engines.qwen3 import Manner
from makima_tts.engines.qwen3.awaiting import Awaited
from makima_tts.engines.qwen3.runner import Made, Runner
from makima_tts.engines.qwen3.scheduler import plan_step
from makima_tts.engines.qwen3.slots import Lease
from makima_tts.engines.qwen3.steps import Steps
from makima_tts.engines.qwen3.utterance import EngineUtterance
from makima_tts.errors import GpuOutOfMemory, TtsError, TtsUnavailable
from makima_tts.model.frames import PrefillChunk
from makima_tts.speech import SpeechSink, SpeechStream, UtteranceRequest, VoicePrompt
from tests.checkpoints.models import ENDING, small_model
from tests.qwen3.engines import begin, chunks_of, running, sound

ROOM_ROWS = 20


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


class Tight(Runner):
    """Has memory for so many rows at once."""

    def read(self, parts: Sequence[PrefillChunk]) -> Awaited[None]:
        if sum(len(part.rows) for part in parts) > ROOM_ROWS:
            raise torch.OutOfMemoryError
        return super().read(parts)


def utterance(steps: Steps, slot: int) -> tuple[EngineUtterance, SpeechStream]:
    """One whose prompt has been written. The later ones came later."""
    stream, sink = SpeechStream.create(buffer_samples=24_000)
    made = EngineUtterance(UtteranceRequest("utterance", seed=1), sink, Lease(slot, 1), since_s=slot)
    steps.begin(made)
    stream.feed("The lamps are lit.")
    made.advance(slot)
    steps.prepare(made)
    return made, stream


async def test_of_several_newcomers_the_newest_fails_and_the_others_are_read() -> None:
    model, failed = small_model(ENDING), dict[SpeechSink, TtsError]()
    steps = Steps(
        model,
        Tight(model, slots=4, positions=256, text_rows=256),
        Manner(),
        fail=lambda utterance, error: failed.update({utterance.sink: error}),
        watch=None,
    )
    company = [utterance(steps, slot) for slot in range(3)]
    standings = [each.standing(steps.frame_s) for each, _stream in company]
    assert sum(sum(each.unread) for each in standings) > ROOM_ROWS
    steps.perform(
        plan_step(standings, 2.0, steps.meter.costs), {each.lease.slot: each for each, _stream in company}
    )
    assert list(failed) == [company[2][0].sink]
    assert all(isinstance(error, GpuOutOfMemory) for error in failed.values())
    for _each, stream in company[:2]:
        assert (await anext(stream)).pcm.size


async def test_what_is_kept_of_voices_is_let_go_and_had_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running("odd", manner=Manner(max_frames=4)) as engine:
        hidden = small_model("odd").config.talker_config.hidden_size
        voice = VoicePrompt(engine.facts.fingerprint, {"x_vector": torch.linspace(-1, 1, hidden).numpy()})
        whole = sound(await chunks_of(begin(engine, "Who is there?", voice=voice)))
        kept = voice.engine_share.size_bytes
        assert kept

        def no_room(_runner: Runner, _parts: Sequence[PrefillChunk]) -> Awaited[None]:
            raise torch.OutOfMemoryError

        with monkeypatch.context() as patch:
            patch.setattr(Runner, "read", no_room)
            with pytest.raises(GpuOutOfMemory, match="try again"):
                await chunks_of(begin(engine, "Who is there?"))
        assert voice.engine_share.size_bytes == 0
        again = sound(await chunks_of(begin(engine, "Who is there?", voice=voice)))
        assert np.abs(again - whole).max() < 2**-16  # how chunks are cut decides the last bits
        assert voice.engine_share.size_bytes == kept


@pytest.mark.parametrize("call", ["make", "read"])
async def test_a_device_that_answers_nothing_any_more_ends_the_engine_and_not_one_after_the_other(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA answers every call with the same error from then on, and ``/ready`` must not go on saying yes."""

    def gone(*_given: object) -> Awaited[Made]:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    async with running(ENDING) as engine:
        monkeypatch.setattr(Runner, call, gone)
        with pytest.raises(TtsUnavailable, match="stopped"):
            await chunks_of(begin(engine, "Who is there?"))
        assert not engine.health().alive
        with pytest.raises(TtsUnavailable, match="stopped"):
            begin(engine, "Who is there?")


async def test_memory_that_the_driver_lacks_is_no_end_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object) -> Awaited[None]:
        error = torch.AcceleratorError("out of memory")
        vars(error)["error_code"] = 2  # cudaErrorMemoryAllocation
        raise error

    async with running(ENDING) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(Runner, "read", full)
            with pytest.raises(GpuOutOfMemory):
                await chunks_of(begin(engine, "Who is there?"))
        assert await chunks_of(begin(engine, "Who is there?"))
