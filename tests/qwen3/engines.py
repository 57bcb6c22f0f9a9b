"""The engine on small models, some of which are made to fail.

In: a small model's name, what is wrong with it. Out: a running engine. Does not know: what is tested.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from makima_tts.engines.qwen3 import AdmissionRule, FrameWatcher, ModelChoice, Qwen3Engine, SynthesisOptions
from makima_tts.engines.qwen3.loop import EngineLoop
from makima_tts.engines.qwen3.prompts import Prompts
from makima_tts.engines.qwen3.runner import Runner
from makima_tts.model import CpuPrecision
from makima_tts.model.speech_model import SpeechModel
from makima_tts.speech import AudioChunk, SpeechStream, UtteranceRequest, VoicePrompt
from tests.checkpoints.models import checkpoint_folder

Pcm = npt.NDArray[np.float32]


class _ChangedEngine(Qwen3Engine):
    """``change``: what is done to the model once it is loaded."""

    change: Callable[[SpeechModel], SpeechModel] = staticmethod(lambda model: model)

    def _load(self, tell: Callable[[str, float], None]) -> SpeechModel:
        return self.change(super()._load(tell))


@asynccontextmanager
async def running(
    shape: str,
    *,
    streams: int = 4,
    admission: AdmissionRule = "slots",
    precision: CpuPrecision = "fp32",
    options: SynthesisOptions | None = None,
    watch: FrameWatcher | None = None,
    change: Callable[[SpeechModel], SpeechModel] = lambda model: model,
) -> AsyncIterator[Qwen3Engine]:
    """Started, and closed in the end. A free slot is enough for admission, since the machine may be slow."""
    choice = ModelChoice(str(checkpoint_folder(shape)), cpu_precision=precision)
    engine = _ChangedEngine(choice, streams=streams, admission=admission, options=options, watch=watch)
    engine.change = change
    await engine.start(lambda *_: None)
    try:
        yield engine
    finally:
        await engine.close()


def new_loop(runner: Runner, model: SpeechModel) -> EngineLoop:
    """The engine's loop without a thread; each reading of its clock advances it."""
    ticks = count()
    return EngineLoop(
        runner,
        Prompts(model, runner, SynthesisOptions()),
        slots=4,
        options=SynthesisOptions(),
        clock=lambda: next(ticks) / 1e4,
        arrivals=deque(),
        side_work=deque(),
    )


class ChangedCodec:
    """A codec whose output is changed: ``change`` gets float32 [B, samples] and the slots."""

    def __init__(self, codec: Any, change: Callable[[Any, Any], Any]) -> None:
        self._codec = codec
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def decode(self, codes: Any, state: Any, slots: Any) -> Any:
        return self._change(self._codec.decode(codes, state, slots), slots)


def with_codec(change: Callable[[Any, Any], Any]) -> Callable[[SpeechModel], SpeechModel]:
    return lambda model: replace(model, codec=ChangedCodec(model.codec, change))  # type: ignore[arg-type]


def begin(
    engine: Qwen3Engine,
    *pieces: str,
    seed: int = 1,
    voice: VoicePrompt | None = None,
    name: str = "utterance",
) -> SpeechStream:
    """An utterance whose text is closed."""
    stream = engine.open(UtteranceRequest(name, seed=seed, voice=voice))
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    return stream


async def chunks_of(stream: SpeechStream) -> list[AudioChunk]:
    return [chunk async for chunk in stream]


def sound(chunks: list[AudioChunk]) -> Pcm:
    return np.concatenate([chunk.pcm for chunk in chunks])
