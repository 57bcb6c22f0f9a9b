"""The engine admits streams that it has time for, and a cancel frees its slot within one step."""

import pytest

from makima_tts.engines.qwen3.loop import EngineLoop
from makima_tts.engines.qwen3.runner import GeneratedFrames, PendingResult, Runner
from makima_tts.engines.qwen3.scheduler import Costs
from makima_tts.engines.qwen3.utterance import EngineUtterance
from makima_tts.errors import RateLimited
from tests.checkpoints.models import ENDING
from tests.qwen3.engines import begin, chunks_of, running, sound

TEXT = "The lamps are lit."


async def test_a_slow_machine_admits_one_stream_and_says_when_to_ask_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(ENDING, admission="realtime") as engine:
        monkeypatch.setattr(Costs, "iteration_s", lambda _costs, _streams: 1.0)
        only = begin(engine, *[TEXT] * 3)
        await anext(only)
        with pytest.raises(RateLimited) as refusal:
            begin(engine, TEXT)
        assert 0 < (refusal.value.retry_after_s or 0) <= 30
        await chunks_of(only)
        assert sound(await chunks_of(begin(engine, TEXT))).size


async def test_a_fast_machine_fills_its_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(ENDING, streams=3, admission="realtime") as engine:
        monkeypatch.setattr(Costs, "iteration_s", lambda _costs, streams: 0.001 * streams)
        speaking = [begin(engine, TEXT) for _ in range(3)]
        with pytest.raises(RateLimited):
            begin(engine, TEXT)
        for stream in speaking:
            await chunks_of(stream)


async def test_a_cancel_frees_its_slot_within_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that runs when the cancel arrives is the last one."""
    steps_begun: list[bool] = []
    at_release: list[int] = []
    generate, release = Runner.generate_frames, EngineLoop._leave

    def generated(*given: object) -> PendingResult[GeneratedFrames]:
        steps_begun.append(True)
        return generate(*given)  # type: ignore[arg-type]

    def released(loop: EngineLoop, utterance: EngineUtterance) -> None:
        at_release.append(len(steps_begun))
        release(loop, utterance)

    async with running(ENDING, streams=2) as engine:
        monkeypatch.setattr(Runner, "generate_frames", generated)
        monkeypatch.setattr(EngineLoop, "_leave", released)
        for _ in range(3):
            at_release.clear()
            stays, goes = begin(engine, *[TEXT] * 2), begin(engine, *[TEXT] * 2)
            await anext(goes)
            goes.cancel()
            begun = len(steps_begun)
            assert sound(await chunks_of(begin(engine, TEXT))).size, "the slot is used again"
            assert at_release[0] <= begun + 1
            await chunks_of(stays)
