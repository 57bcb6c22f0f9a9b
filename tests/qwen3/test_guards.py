"""Limits on a model that does not end: the frame budget, silence, NaN."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

from makima_tts.audio import PcmEncoder
from makima_tts.engines.qwen3 import Qwen3Engine, SynthesisOptions
from makima_tts.engines.qwen3.scheduler import CHUNK_FRAMES
from makima_tts.engines.qwen3.utterance import END_AFTER_FRAMES, MAX_SKIPPED_FRAMES, SilenceGuard
from makima_tts.errors import SynthesisError
from makima_tts.model.codec_ops import SILENT_RMS, finish, loud_and_finite
from makima_tts.speech import VoicePrompt
from makima_tts.text import longest_speech_s
from tests.checkpoints.models import ENDING, small_model
from tests.qwen3.engines import Pcm, begin, chunks_of, running, sound, with_codec

RATE_HZ = 24_000
FRAME = 1920
TEXT = "The lamps are lit."


def frames(*levels: float) -> Pcm:
    """A tone per frame, given its RMS."""
    tone = np.sin(np.arange(FRAME) * 0.1) * np.sqrt(2)
    return np.concatenate([level * tone for level in levels]).astype(np.float32)


def test_a_frame_is_silent_when_no_hundredth_of_a_second_is_loud() -> None:
    pcm = frames(SILENT_RMS * 0.9, SILENT_RMS * 1.1, 0, 0)
    pcm[3 * FRAME - 240 :][:240] = 0.01  # the end of the third
    loud, finite = loud_and_finite(torch.from_numpy(pcm)[None], 4, RATE_HZ)
    assert loud.tolist() == [[False, True, True, False]]
    assert finite.all()


def test_samples_of_16_bits_are_those_that_clients_are_sent_and_nan_is_silence() -> None:
    noise = np.random.Generator(np.random.PCG64(1)).uniform(-1.2, 1.2, (2, 3 * FRAME)).astype(np.float32)
    noise[0, :4] = 0.5 / 32767, 1.5 / 32767, -0.5 / 32767, 1.0
    spoilt = noise.copy()
    spoilt[1, FRAME + 7] = np.nan
    spoilt[1, 2 * FRAME] = np.inf
    pcm, loud, finite = finish(torch.from_numpy(spoilt), 3, RATE_HZ)
    expected = [PcmEncoder(RATE_HZ, RATE_HZ, "pcm16").encode(row) for row in noise]
    assert pcm[0].numpy().tobytes() == expected[0]
    assert finite.tolist() == [[True] * 3, [True, False, False]]
    assert pcm[1, :FRAME].numpy().tobytes() == expected[1][: 2 * FRAME]
    assert not pcm[1, FRAME:].any()
    assert loud[0].all()


def loudness(pcm: Pcm) -> np.ndarray:
    """bool [frames]."""
    return loud_and_finite(torch.from_numpy(pcm)[None], pcm.size // FRAME, RATE_HZ)[0][0].numpy()


def pass_on(guard: SilenceGuard, pcm: Pcm, after_text: int) -> np.ndarray:
    return guard.pass_on(pcm, loudness(pcm), after_text=after_text)


def test_leading_silence_is_left_out_and_nothing_after_it() -> None:
    guard = SilenceGuard()
    pcm = frames(0, 0, 0.1, 0, 0.1)
    assert np.array_equal(pass_on(guard, pcm, 0), pcm[2 * FRAME :])
    assert np.array_equal(pass_on(guard, pcm, 0), pcm)


def test_longer_leading_silence_is_passed_on() -> None:
    guard = SilenceGuard()
    heard = [pass_on(guard, frames(0), 0).size for _ in range(20)]
    assert heard == [0] * MAX_SKIPPED_FRAMES + [FRAME] * (20 - MAX_SKIPPED_FRAMES)


def test_silence_counts_only_once_the_text_is_used_up_and_starts_anew_with_sound() -> None:
    guard, count = SilenceGuard(begun=True), END_AFTER_FRAMES - 1
    silence = frames(*[0] * count)
    pass_on(guard, silence, 0)
    pass_on(guard, silence, 1)
    assert guard.silent_frames == 1
    pass_on(guard, frames(0.1), 1)
    pass_on(guard, silence, count)
    assert not guard.lost
    pass_on(guard, frames(0), 1)
    assert guard.lost
    guard.begin_piece()
    assert not guard.lost


async def test_a_voice_that_does_not_find_its_end_is_stopped_by_its_texts_budget() -> None:
    def never_ends(model: Any) -> Any:
        model.talker.head.weight[model.config.talker_config.codec_eos_token_id] = 0
        return model

    async with running(ENDING, change=never_ends) as engine:
        stream = begin(engine, "No.")
        spoken = sound(await chunks_of(stream))
    assert stream.finish_reason == "length"
    assert spoken.size == round(longest_speech_s("No.", "English") * RATE_HZ / FRAME) * FRAME


async def test_the_silence_that_the_model_opens_with_is_skipped() -> None:
    opened = []

    def silent_at_first(pcm: torch.Tensor, _slots: torch.Tensor) -> torch.Tensor:
        opened.append(pcm.shape[1] // FRAME)
        return pcm * 0 if sum(opened) <= 4 else pcm

    async with running(ENDING) as plain:
        whole = sound(await chunks_of(begin(plain, TEXT)))
    async with running(ENDING, change=with_codec(silent_at_first)) as engine:
        opened.clear()
        chunks = await chunks_of(begin(engine, TEXT))
    assert opened[:5] == [1, 1, 1, 1, 1], "frame by frame until there is something to hear"
    assert np.abs(sound(chunks) - whole[4 * FRAME :]).max() < 2**-16


async def test_a_voice_that_falls_silent_after_its_text_is_stopped() -> None:
    def never_ends(model: Any) -> Any:
        model.talker.head.weight[model.config.talker_config.codec_eos_token_id] = 0
        return with_codec(lambda pcm, _slots: pcm * 0)(model)

    frames_made: list[bool] = []
    async with running(
        ENDING, change=never_ends, watch=lambda _name, _codes: frames_made.append(True)
    ) as engine:
        frames_made.clear()
        stream = begin(engine, 10 * TEXT)
        await chunks_of(stream)
        tokens = len(small_model(ENDING).tokenizer.encode(10 * TEXT))
    assert stream.finish_reason == "length"
    assert tokens + END_AFTER_FRAMES <= len(frames_made) <= tokens + END_AFTER_FRAMES + CHUNK_FRAMES[-1]
    assert len(frames_made) * FRAME < 0.7 * longest_speech_s(10 * TEXT, "English") * RATE_HZ


async def test_nan_fails_its_own_utterance_and_no_other() -> None:
    async with running(ENDING) as engine:
        alone = sound(await chunks_of(begin(engine, TEXT)))
        neighbour = asyncio.create_task(chunks_of(begin(engine, TEXT)))
        with pytest.raises(SynthesisError, match="not a number"):
            await chunks_of(begin(engine, TEXT, voice=not_a_number(engine)))
        assert np.abs(sound(await neighbour) - alone).max() < 2**-16


async def test_nan_is_scrubbed_before_the_slot_is_used_again() -> None:
    """A longer prompt leaves keys and values that a shorter one masks, but still multiplies by zero."""
    async with running("odd", options=SynthesisOptions(text_streams=False, max_frames=6)) as engine:
        alone = sound(await chunks_of(begin(engine, TEXT)))
        with pytest.raises(SynthesisError, match="not a number"):
            await chunks_of(begin(engine, 2 * TEXT, voice=not_a_number(engine, 80)))
        assert np.abs(sound(await chunks_of(begin(engine, TEXT))) - alone).max() < 2**-16


def not_a_number(engine: Qwen3Engine, size: int = 64) -> VoicePrompt:
    """A voice whose output is only NaN."""
    return VoicePrompt(engine.facts.fingerprint, {"x_vector": np.full(size, np.nan, np.float32)})


async def test_sound_with_nan_is_never_delivered() -> None:
    async with running(ENDING) as plain:
        alone = sound(await chunks_of(begin(plain, TEXT)))
    broken: list[float] = []

    def breaks_when_told(pcm: torch.Tensor, _slots: torch.Tensor) -> torch.Tensor:
        return pcm * broken.pop() if broken else pcm

    async with running(ENDING, change=with_codec(breaks_when_told)) as engine:
        broken.append(float("nan"))
        stream = begin(engine, TEXT)
        with pytest.raises(SynthesisError):
            await chunks_of(stream)
        assert np.abs(sound(await chunks_of(begin(engine, TEXT))) - alone).max() < 2**-16
