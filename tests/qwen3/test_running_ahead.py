"""An engine whose device runs ahead of the host, with recorded graphs: the sound is the same as without."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from makima_tts.audio import as_float
from makima_tts.engines.qwen3 import Qwen3Engine, SynthesisOptions
from makima_tts.engines.qwen3.runner import GeneratedFrames, PendingResult, Runner
from makima_tts.engines.qwen3.utterance import END_AFTER_FRAMES, EngineUtterance
from makima_tts.errors import Cancelled, SynthesisError
from makima_tts.model.speech_model import SpeechModel
from makima_tts.speech import AudioChunk, SpeechSink, SpeechStream, UtteranceRequest, VoicePrompt
from tests.checkpoints.models import ENDING, small_model
from tests.qwen3.engines import begin, chunks_of, new_loop, running, with_codec
from tests.qwen3.recording import everything_captured

PIECES = ("The lamps are lit.", "Who is there?", "Nobody.")
FRAME = 1920


@asynccontextmanager
async def running_ahead(**given: Any) -> AsyncIterator[Qwen3Engine]:
    with everything_captured():
        async with running(ENDING, streams=2, options=SynthesisOptions(positions=250), **given) as engine:
            yield engine


def heard(chunks: list[AudioChunk]) -> npt.NDArray[np.float32]:
    return np.concatenate([as_float(chunk.pcm) for chunk in chunks])


def assert_same_sound(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> None:
    """Within a step of 16 bits: chunk boundaries depend on time, and decide the last bit."""
    assert one.size == other.size
    assert np.abs(one - other).max() < 1.1 / 32767


async def test_running_ahead_gives_the_sound_of_an_engine_that_does_not() -> None:
    async with running(ENDING) as engine:
        expected = [heard(await chunks_of(begin(engine, *PIECES, seed=seed))) for seed in (1, 2, 3)]
    async with running_ahead() as engine:
        tasks = [asyncio.create_task(chunks_of(begin(engine, *PIECES, seed=seed))) for seed in (1, 2)]
        spoken = [await task for task in tasks]
        spoken.append(await chunks_of(begin(engine, *PIECES, seed=3)))
    for chunks, sound in zip(spoken, expected, strict=True):
        assert all(chunk.pcm.dtype == np.int16 for chunk in chunks if chunk.pcm.size)
        assert [chunk.piece_index for chunk in chunks if chunk.ends_piece] == [0, 1, 2]
        assert_same_sound(heard(chunks), sound)


async def test_sound_with_nan_fails_its_own_utterance_and_no_other() -> None:
    async with running_ahead() as engine:
        alone = heard(await chunks_of(begin(engine, *PIECES)))
        neighbour = asyncio.create_task(chunks_of(begin(engine, *PIECES)))
        broken_voice = VoicePrompt(engine.facts.fingerprint, {"x_vector": np.full(64, np.nan, np.float32)})
        with pytest.raises(SynthesisError, match="not a number"):
            await chunks_of(begin(engine, PIECES[0], voice=broken_voice))
        assert_same_sound(heard(await neighbour), alone)


async def test_a_cancel_frees_the_slot_while_a_frame_is_generated() -> None:
    async with running_ahead() as engine:
        for _ in range(6):
            stream = begin(engine, *[PIECES[0]] * 20)
            await anext(stream)
            stream.cancel()
            with pytest.raises(Cancelled):
                await anext(stream)
        after = heard(await chunks_of(begin(engine, *PIECES)))
        assert_same_sound(after, heard(await chunks_of(begin(engine, *PIECES))))


async def test_a_piece_that_ends_in_silence_drops_the_frame_that_was_under_way() -> None:
    """The frame that began before the silence was detected is dropped."""

    def never_ends(model: Any) -> Any:
        model.talker.head.weight[model.config.talker_config.codec_eos_token_id] = 0
        return with_codec(lambda pcm, _slots: pcm * 0)(model)

    told = []
    for engine_that in (running_ahead, partial(running, ENDING)):
        made: list[tuple[str, list[int]]] = []
        watch = partial(_remember, made)
        async with engine_that(change=never_ends, watch=watch) as engine:
            stream = begin(engine, "No.", "Yes.", name="this one")
            await chunks_of(stream)
            assert stream.finish_reason == "length"
        told.append([codes for name, codes in made if name == "this one"])
    ahead, waiting = told
    assert min(len(ahead), len(waiting)) > END_AFTER_FRAMES
    assert ahead[:END_AFTER_FRAMES] == waiting[:END_AFTER_FRAMES]


class AheadRunner(Runner):
    """Its audio is delivered one iteration later, as a GPU's is."""

    def __init__(self, model: SpeechModel) -> None:
        super().__init__(model, slots=4, positions=256)
        self.ended_pieces = 0
        self.runs_ahead = True


class LateEndRunner(AheadRunner):
    """The model ends a piece in the very frame that is generated while the engine ends that piece."""

    def generate_frames(self, *given: Any) -> PendingResult[GeneratedFrames]:
        result, ended_before = super().generate_frames(*given), self.ended_pieces

        def wait() -> GeneratedFrames:
            frames = result.wait()
            frames.ends[:] = self.ended_pieces > ended_before
            return frames

        return PendingResult(wait, result.seconds)


def opened(*pieces: str) -> tuple[SpeechStream, SpeechSink]:
    stream, sink = SpeechStream.create(buffer_samples=10**7)
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    return stream, sink


async def test_sound_that_is_decoded_when_its_utterance_is_cancelled_is_not_delivered() -> None:
    model = small_model(ENDING)
    (_stays, staying), (leaves, leaving) = opened(PIECES[0]), opened(PIECES[0])
    with torch.inference_mode():
        loop = new_loop(AheadRunner(model), model)
        loop.arrivals.extend((UtteranceRequest("utterance", seed=1), sink) for sink in (staying, leaving))
        assert loop.iterate()
        assert staying.put_samples == leaving.put_samples == 0, "both are being decoded"
        leaves.cancel()
        assert loop.iterate()
    assert staying.put_samples
    assert not leaving.put_samples


async def test_an_end_in_a_frame_of_a_piece_that_has_ended_does_not_end_the_next_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = with_codec(lambda pcm, _slots: pcm * 0)(small_model(ENDING))
    runner, end_piece = LateEndRunner(model), EngineUtterance.end_piece

    def counted(utterance: EngineUtterance) -> None:
        runner.ended_pieces += 1
        end_piece(utterance)

    monkeypatch.setattr(EngineUtterance, "end_piece", counted)
    stream, sink = opened(3 * PIECES[0], 3 * PIECES[1])
    with torch.inference_mode():
        loop = new_loop(runner, model)
        loop.arrivals.append((UtteranceRequest("utterance", seed=1), sink))
        while loop.iterate():
            pass
    chunks = await chunks_of(stream)
    assert [chunk.piece_index for chunk in chunks if chunk.ends_piece] == [0, 1]
    frames = [
        sum(chunk.pcm.size for chunk in chunks if chunk.piece_index == index) // FRAME for index in (0, 1)
    ]
    assert frames[1] > END_AFTER_FRAMES, frames


def _remember(made: list[tuple[str, list[int]]], name: str, codes: npt.NDArray[np.int64]) -> None:
    made.append((name, codes.tolist()))
