"""The growth of chunks; chunks and pieces join without a seam."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from makima_tts.engines.qwen3.runner import Runner
from makima_tts.engines.qwen3.scheduler import CHUNK_FRAMES, next_chunk_frames
from makima_tts.model.language_model import FrameGenerator, FrameState, Talker
from makima_tts.model.voice_encoding import voice_from
from makima_tts.speech import SpeechStream, UtteranceRequest, VoiceReference
from tests.checkpoints.models import ENDING, small_model
from tests.qwen3.engines import begin, chunks_of, new_loop, running, sound

PIECES = ("The lamps are lit.", "Who is there?", "Nobody.")
FRAME = 1920


def ramp(rtf: float) -> list[int]:
    sizes = [next_chunk_frames(0, rtf)]
    while len(sizes) < 8:
        sizes.append(next_chunk_frames(sizes[-1], rtf))
    return sizes


def test_the_first_chunk_is_one_frame_and_later_ones_grow_to_the_largest() -> None:
    assert ramp(0.01) == [1, 2, 4, 8, 12, 12, 12, 12]


@pytest.mark.parametrize("rtf", [0.2, 0.5, 0.6, 0.9, 0.99, 1.0, 1.7])
def test_no_chunk_takes_longer_to_make_than_the_one_before_it_takes_to_play(rtf: float) -> None:
    for earlier, later in pairwise(ramp(rtf)):
        assert later * min(rtf, 1.0) <= earlier or later == 1
        assert later <= CHUNK_FRAMES[-1]


async def test_the_first_chunk_needs_no_step_of_the_talker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt, a code predictor and a codec, all within the first iteration of the engine."""
    model, steps_taken = small_model(ENDING), []
    step = Talker.step

    def counted(*given: Any) -> torch.Tensor:
        steps_taken.append(True)
        return step(*given)

    monkeypatch.setattr(Talker, "step", counted)
    stream, sink = SpeechStream.create(buffer_samples=24_000)
    with torch.inference_mode():
        loop = new_loop(Runner(model, slots=4, positions=256), model)
        loop.arrivals.append((UtteranceRequest("utterance", seed=1), sink))
        stream.feed(PIECES[0])
        assert loop.iterate()
        assert (await anext(stream)).pcm.size == FRAME
        assert not steps_taken
        assert loop.iterate()
        assert steps_taken


async def test_every_step_attends_to_all_positions_of_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is a multiple of 64: it grows in time."""
    furthest, limits = list[int](), list[int]()
    step = FrameGenerator.step

    def recorded(generator: FrameGenerator, state: FrameState, slots: torch.Tensor, limit: int) -> None:
        furthest.append(int(state.position[slots].max()))
        limits.append(limit)
        step(generator, state, slots, limit)

    monkeypatch.setattr(FrameGenerator, "step", recorded)
    model = small_model("odd")
    stream, sink = SpeechStream.create(buffer_samples=10**7)
    stream.feed(5 * PIECES[0])
    with torch.inference_mode():
        loop = new_loop(Runner(model, slots=4, positions=256), model)
        loop.arrivals.append((UtteranceRequest("utterance", seed=1), sink))
        while loop.iterate() and (not furthest or furthest[-1] < 70):
            pass
    assert 64 in furthest
    assert all(position < limit for position, limit in zip(furthest, limits, strict=True))


async def test_pieces_and_chunks_join_without_a_seam() -> None:
    """All frames of an utterance, decoded at once from the voice's state, are its sound: nothing was lost
    between two chunks, and no piece began with a codec that had forgotten the one before."""
    frames: list[npt.NDArray[np.int64]] = []
    async with running(ENDING, watch=lambda _name, codes: frames.append(codes)) as engine:
        voice = await engine.encode_voice(reference())
        frames.clear()
        spoken = sound(await chunks_of(begin(engine, *PIECES, voice=voice)))
    model = small_model(ENDING)
    with torch.inference_mode():
        state = model.codec.new_state(1)
        state.put_row(0, voice_from(model, voice.tensors).codec)
        codes = torch.from_numpy(np.stack(frames))[None]
        whole = model.codec.decode(codes, state, torch.tensor([0]))[0].numpy()
    heard = whole[whole.size - spoken.size :]  # leading silence may have been left out
    error = np.square(spoken - heard).sum(dtype=np.float64)
    assert 10 * np.log10(np.square(heard).sum(dtype=np.float64) / error) > 90


async def test_random_numbers_go_on_over_pieces() -> None:
    """The same piece twice does not sound the same twice."""
    frames: list[npt.NDArray[np.int64]] = []
    async with running(ENDING, watch=lambda _name, codes: frames.append(codes)) as engine:
        frames.clear()
        await chunks_of(begin(engine, PIECES[0], PIECES[0]))
    half = len(frames) // 2
    assert not np.array_equal(frames[:half], frames[half:])


def reference() -> VoiceReference:
    """Four seconds of a rising tone."""
    pcm = (0.4 * np.sin(np.cumsum(np.linspace(0.01, 0.3, 96_000)))).astype(np.float32)
    return VoiceReference(pcm, 24_000, "What is said in it.", "English", "icl")
