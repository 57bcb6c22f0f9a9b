"""Runs pipecat pipelines that speak, in the environment with pipecat.

In: the address of a service with the scripted engine. Out: observations of each pipeline, as JSON on stdout.
Does not know: the expected values; the tests compare them, in an environment without pipecat.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.workers.runner import WorkerRunner

from tests.clients.gauges import PATIENCE_S, falls_silent_meanwhile, gauge
from tests.sentences import WORDLESS

sys.path.append(str(Path(__file__).parents[2] / "integrations" / "pipecat"))
from makima_pipecat import MakimaTTSService

HOST = sys.argv[1]
Seen = dict[str, Any]


class Ears(FrameProcessor):  # type: ignore[misc]  # not installed where types are checked
    """Records the frames that pass, with their times."""

    def __init__(self, direction: FrameDirection) -> None:
        super().__init__(enable_direct_mode=True)
        self.frames: list[Frame] = []
        self._direction = direction
        self._news = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction == self._direction:
            self.frames.append(frame)
            self._news.set()
        await self.push_frame(frame, direction)

    def of(self, kind: type[Frame]) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def until(self, kind: type[Frame], count: int = 1) -> None:
        """Waits until as many frames of this class have passed."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.of(kind)) < count:
                self._news.clear()
                await self._news.wait()


class Bot:
    """A pipeline that only speaks."""

    def __init__(self, tts: TTSService) -> None:
        self.heard = Ears(FrameDirection.DOWNSTREAM)
        self.complaints = Ears(FrameDirection.UPSTREAM)
        pipeline = Pipeline([self.complaints, tts, self.heard])
        params = PipelineParams(audio_out_sample_rate=24_000)
        self.worker = PipelineWorker(pipeline, cancel_on_idle_timeout=False, enable_rtvi=False, params=params)

    async def take(self, *frames: Frame) -> None:
        await self.worker.queue_frames(list(frames))

    @property
    def audio_ms(self) -> int:
        return sum(len(frame.audio) for frame in self.heard.of(TTSAudioRawFrame)) // 48

    def seen(self) -> Seen:
        return {
            "audio_ms": self.audio_ms,
            "started": len(self.heard.of(TTSStartedFrame)),
            "stopped": len(self.heard.of(TTSStoppedFrame)),
            "text": [frame.text for frame in self.heard.of(TTSTextFrame)],
            "errors": [
                [frame.error, frame.category and frame.category.value]
                for frame in self.complaints.of(ErrorFrame)
            ],
        }


@asynccontextmanager
async def running(tts: TTSService) -> AsyncIterator[Bot]:
    bot = Bot(tts)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(bot.worker)
    started = asyncio.Event()
    bot.worker.event_handler("on_pipeline_started")(lambda *_: started.set())
    running = asyncio.create_task(runner.run())
    async with asyncio.timeout(PATIENCE_S):
        await started.wait()
    yield bot
    await bot.take(EndFrame())
    async with asyncio.timeout(PATIENCE_S):
        await running


def openai_service() -> TTSService:
    settings = OpenAITTSService.Settings(voice="nova")
    return OpenAITTSService(api_key="any", base_url=f"http://{HOST}/v1", settings=settings)


def makima_service(voice: str | None = None, host: str = HOST) -> TTSService:
    return MakimaTTSService(url=f"ws://{host}/api/v1/speak", settings=TTSSettings(voice=voice))


async def a_text_is_spoken(tts: TTSService) -> Seen:
    async with running(tts) as bot:
        await bot.take(TTSSpeakFrame("The lamps are lit."))
        await bot.heard.until(TTSStoppedFrame)
        return bot.seen()


async def who_interrupts_is_obeyed(tts: TTSService) -> Seen:
    """Interrupts, then lets the next turn be spoken."""
    before = gauge(HOST, "sessions_opened_total")
    async with running(tts) as bot:
        await bot.take(TTSSpeakFrame("{slow 0.2}This would take very long. {endless}"))
        await bot.heard.until(TTSAudioRawFrame, 3)
        speaking = gauge(HOST, "utterances_speaking")
        await bot.take(InterruptionFrame())
        await bot.heard.until(InterruptionFrame)
        silenced = await falls_silent_meanwhile(HOST)
        first_ms = bot.audio_ms
        stopped = len(bot.heard.of(TTSStoppedFrame))
        await bot.take(TTSSpeakFrame("Go on."))
        await bot.heard.until(TTSStoppedFrame, stopped + 1)
        return {
            **bot.seen(),
            "speaking": speaking,
            "silenced": silenced,
            "then_ms": bot.audio_ms - first_ms,
            "connections": gauge(HOST, "sessions_opened_total") - before,
        }


async def a_turn_is_heard_while_it_is_written() -> Seen:
    """The rest of the text is written once audio of its beginning has arrived."""
    async with running(makima_service()) as bot:
        begun = ["The", " la", "mps are", " lit", ". The ", "doors", " are"]
        await bot.take(LLMFullResponseStartFrame(), *(LLMTextFrame(token) for token in begun))
        await bot.heard.until(TTSAudioRawFrame)
        await bot.take(LLMTextFrame(" open."), LLMFullResponseEndFrame())
        await bot.heard.until(TTSStoppedFrame)
        await bot.heard.until(LLMFullResponseEndFrame)
        return bot.seen()


async def what_is_written_after_a_pause_is_heard(host: str) -> Seen:
    """``host``: a service that closes a text after a short pause."""
    ended = 'utterances_total{outcome="complete"}'
    before = gauge(host, ended)
    async with running(makima_service(host=host)) as bot:
        await bot.take(LLMFullResponseStartFrame())
        for number, token in enumerate(("The lamps are lit. And", " the doors are open."), 1):
            await bot.take(LLMTextFrame(token))
            async with asyncio.timeout(PATIENCE_S):
                while gauge(host, ended) < before + number:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        await bot.take(LLMFullResponseEndFrame())
        await bot.heard.until(TTSStoppedFrame)
        return bot.seen()


async def a_failure_costs_its_turn_alone() -> Seen:
    async with running(makima_service()) as bot:
        await bot.take(TTSSpeakFrame("One {fail}"), TTSSpeakFrame("..."), TTSSpeakFrame("Two."))
        await bot.heard.until(TTSStoppedFrame, 3)
        return bot.seen()


async def turns_then_another(tts: TTSService, texts: Sequence[str]) -> Seen:
    """Each turn after the end of the one before it; then one that can be spoken."""
    async with running(tts) as bot:
        for number, text in enumerate((*texts, "Go on."), 1):
            await bot.take(LLMFullResponseStartFrame(), LLMTextFrame(text), LLMFullResponseEndFrame())
            await bot.heard.until(LLMFullResponseEndFrame, number)
        return {**bot.seen(), "usable": tts.is_usable}


async def an_unknown_voice_is_reported() -> Seen:
    async with running(makima_service(voice="nobody")) as bot:
        await bot.take(TTSSpeakFrame("Is anybody there?"))
        await bot.complaints.until(ErrorFrame)
        return bot.seen()


async def a_service_that_is_not_there_is_reported() -> Seen:
    """No server listens on port 9."""
    async with running(makima_service(host="127.0.0.1:9")) as bot:
        await bot.take(TTSSpeakFrame("Is anybody there?"), TTSSpeakFrame("Nobody."))
        await bot.heard.until(TTSStoppedFrame, 2)
        return bot.seen()


async def main() -> None:
    seen = {
        "openai speaks": await a_text_is_spoken(openai_service()),
        "openai interrupted": await who_interrupts_is_obeyed(openai_service()),
        "makima speaks": await a_text_is_spoken(makima_service()),
        "makima interrupted": await who_interrupts_is_obeyed(makima_service()),
        "makima written": await a_turn_is_heard_while_it_is_written(),
        "makima pausing": await what_is_written_after_a_pause_is_heard(sys.argv[2]),
        "makima failing": await a_failure_costs_its_turn_alone(),
        "openai wordless": await turns_then_another(openai_service(), WORDLESS),
        "makima wordless": await turns_then_another(makima_service(), WORDLESS),
        "makima failing turns": await turns_then_another(makima_service(), ["{fail}a"] * 5),
        "makima unknown voice": await an_unknown_voice_is_reported(),
        "makima nobody there": await a_service_that_is_not_there_is_reported(),
    }
    print(json.dumps(seen))


asyncio.run(main())
