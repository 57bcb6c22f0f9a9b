"""Laws of the qwen3 engine beyond the conformance suite: slots, voices encoded during speech, silence."""

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from makima_tts.engines.qwen3 import ModelChoice, Qwen3Engine, SynthesisOptions
from makima_tts.engines.qwen3.engine import _noise
from makima_tts.engines.qwen3.loop import EngineLoop
from makima_tts.engines.qwen3.runner import Runner
from makima_tts.engines.qwen3.utterance import EngineUtterance
from makima_tts.errors import (
    Cancelled,
    GpuOutOfMemory,
    InvalidText,
    RateLimited,
    SynthesisError,
    TtsUnavailable,
)
from makima_tts.model import CpuPrecision
from makima_tts.model.ops.table import FAMILIES
from makima_tts.speech import SpeechStream, UtteranceRequest, VoicePrompt
from tests.checkpoints.models import ENDING, checkpoint_folder, small_model
from tests.qwen3.engines import begin, chunks_of, new_loop, running, sound
from tests.qwen3.test_chunks import reference

TEXT = "The lamps are lit."


async def test_the_lowest_free_slot_is_used_and_an_utterance_that_has_left_frees_nothing() -> None:
    model = small_model(ENDING)
    loop = new_loop(Runner(model, slots=4, positions=64), model)

    def admit(name: str) -> EngineUtterance:
        _stream, sink = SpeechStream.create(buffer_samples=1)
        loop.arrivals.append((UtteranceRequest(name, seed=0), sink))
        loop.iterate()
        return next(each for each in loop._utterances.values() if each.sink is sink)

    with torch.inference_mode():
        first, second = admit("first"), admit("second")
        assert (first.slot, second.slot) == (0, 1)
        loop._fail(first, SynthesisError("It fails."))
        again = admit("again")
        assert again.slot == 0
        loop._fail(first, SynthesisError("It fails again."))
        assert loop._utterances[0] is again
        assert [admit(name).slot for name in "ab"] == [2, 3]
        _stream, sink = SpeechStream.create(buffer_samples=1)
        loop.arrivals.append((UtteranceRequest("one too many"), sink))
        assert not loop.iterate()
        assert len(loop.arrivals) == 1


async def test_more_utterances_than_slots_are_spoken_one_after_another() -> None:
    model, streams = small_model(ENDING), []
    with torch.inference_mode():
        loop = new_loop(Runner(model, slots=4, positions=256), model)
        for _ in range(6):
            stream, sink = SpeechStream.create(buffer_samples=10**7)
            stream.feed(TEXT)
            stream.finish()
            loop.arrivals.append((UtteranceRequest("utterance", seed=1), sink))
            streams.append(stream)
        while loop.iterate():
            pass
    assert not loop.arrivals
    first, *others = [sound(await chunks_of(stream)) for stream in streams]
    for other in others:
        assert np.abs(other - first).max() < 2**-16


async def test_when_all_slots_are_in_use_the_next_client_is_told_when_to_retry() -> None:
    async with running(ENDING, streams=2) as engine:
        speaking = [begin(engine, TEXT) for _ in range(2)]
        with pytest.raises(RateLimited) as refusal:
            begin(engine, TEXT)
        assert refusal.value.retry_after_s
        speaking[0].cancel()
        assert sound(await chunks_of(begin(engine, TEXT))).size
        await chunks_of(speaking[1])


async def test_the_slot_of_a_cancelled_utterance_is_used_again_at_once() -> None:
    async with running(ENDING, streams=1) as engine:
        alone = sound(await chunks_of(begin(engine, TEXT)))
        for _ in range(20):
            begin(engine, TEXT).cancel()
        assert np.abs(sound(await chunks_of(begin(engine, TEXT))) - alone).max() < 2**-16


async def test_streams_go_on_while_a_voice_is_encoded() -> None:
    frames: list[npt.NDArray[np.int64]] = []
    async with running(ENDING, watch=lambda _name, codes: frames.append(codes)) as engine:
        alone = sound(await chunks_of(begin(engine, *[TEXT] * 8)))
        stream = begin(engine, *[TEXT] * 8)
        chunks = [await anext(stream)]
        encoding = asyncio.create_task(engine.encode_voice(reference()))
        frames.clear()
        while not encoding.done():
            chunks.append(await anext(stream))
        assert frames, "frames were made between the slices"
        chunks += await chunks_of(stream)
        assert np.abs(sound(chunks) - alone).max() < 2**-16


async def test_a_cancelled_encoding_does_not_affect_the_next() -> None:
    async with running(ENDING) as engine:
        cancelled = asyncio.create_task(engine.encode_voice(reference()))
        await asyncio.sleep(0)
        cancelled.cancel()
        voice = await engine.encode_voice(reference())
        assert sound(await chunks_of(begin(engine, TEXT, voice=voice))).size


async def test_closing_ends_an_encoding_in_words() -> None:
    async with running(ENDING) as engine:
        encoding = asyncio.create_task(engine.encode_voice(reference()))
        await asyncio.sleep(0)
        await engine.close()
        with pytest.raises(TtsUnavailable):
            await encoding


async def test_a_voice_is_most_like_itself() -> None:
    async with running(ENDING) as engine:
        clip = reference()
        voice = await engine.encode_voice(clip)
        itself = await engine.similarity(voice, clip.pcm)
        noise = np.random.Generator(np.random.PCG64(1)).normal(0, 0.1, 48_000).astype(np.float32)
        assert itself == pytest.approx(1)
        assert await engine.similarity(voice, noise) < itself


async def test_a_text_that_has_no_room_beside_its_voice_is_refused_in_words() -> None:
    async with running(ENDING, options=SynthesisOptions(positions=64)) as engine:
        assert sound(await chunks_of(begin(engine, TEXT))).size
        voice = await engine.encode_voice(reference())
        with pytest.raises(InvalidText, match="too long"):
            await chunks_of(begin(engine, TEXT, voice=voice))
        assert sound(await chunks_of(begin(engine, TEXT))).size


async def test_a_piece_is_truncated_where_its_positions_end() -> None:
    async with running(ENDING, options=SynthesisOptions(positions=60, raw=True)) as engine:
        stream = begin(engine, "A text of more than fifty frames, one for every letter of it.")
        assert sound(await chunks_of(stream)).size < 60 * 1920
        assert stream.finish_reason == "length"


async def test_a_slow_listener_delays_no_other_stream() -> None:
    async with running(ENDING, streams=2) as engine:
        slow = begin(engine, *[TEXT] * 4)
        await anext(slow)
        quick = begin(engine, TEXT)
        assert sound(await chunks_of(quick)).size
        assert engine.health().active == 1
        slow.cancel()
        with pytest.raises(Cancelled):
            await anext(slow)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (ModelChoice("nobody/nothing", offline=True), "TTS_OFFLINE"),
        (ModelChoice("nobody/nothing", offline=True, device="cuda:99"), "TTS_DEVICE"),
        (ModelChoice("nobody/nothing", offline=True, device="toaster"), "TTS_DEVICE"),
    ],
)
async def test_a_failed_load_says_why(choice: ModelChoice, words: str, tmp_path: Path) -> None:
    engine = Qwen3Engine(choice)
    with pytest.raises(TtsUnavailable, match=words):
        await engine.start(lambda *_: None)
    with pytest.raises(TtsUnavailable):
        engine.open(UtteranceRequest("utterance"))
    await engine.close()


async def test_an_engine_whose_thread_died_fails_its_utterances_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dies(*_given: object) -> None:
        raise MemoryError

    async with running(ENDING) as engine:
        stream = begin(engine, *[TEXT] * 3)
        await anext(stream)
        monkeypatch.setattr(EngineLoop, "_plan", dies)
        with pytest.raises(TtsUnavailable):
            await chunks_of(stream)
        with pytest.raises(TtsUnavailable):
            begin(engine, TEXT)
        assert not engine.health().alive


async def test_max_frames_bounds_an_utterance_of_any_number_of_pieces() -> None:
    frames: list[npt.NDArray[np.int64]] = []
    options = SynthesisOptions(max_frames=20)
    async with running(ENDING, options=options, watch=lambda _name, codes: frames.append(codes)) as engine:
        frames.clear()
        stream = begin(engine, *["Hm."] * 30)
        await chunks_of(stream)
        assert len(frames) == 20
        assert stream.finish_reason == "length"


async def test_out_of_memory_fails_one_utterance_and_the_engine_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(ENDING) as engine:
        with monkeypatch.context() as full:
            full.setattr(Runner, "prefill", out_of_memory)
            with pytest.raises(GpuOutOfMemory):
                await chunks_of(begin(engine, TEXT))
        assert sound(await chunks_of(begin(engine, TEXT))).size


def out_of_memory(*_given: object) -> None:
    raise torch.OutOfMemoryError


async def test_a_prompt_that_cannot_be_prefilled_fails_no_other_utterance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(ENDING) as engine:
        alone = sound(await chunks_of(begin(engine, *[TEXT] * 3)))
        healthy = begin(engine, *[TEXT] * 3)
        first = await anext(healthy)
        broken = VoicePrompt(engine.facts.fingerprint, {"x_vector": np.zeros(3, np.float32)})
        with pytest.raises(SynthesisError):
            await chunks_of(begin(engine, TEXT, voice=broken))
        rest = await chunks_of(healthy)
        assert np.abs(sound([first, *rest]) - alone).max() < 2**-16


@pytest.mark.parametrize(("precision", "layers"), [("fp32", "torch"), ("int8", "native")])
async def test_the_facts_say_which_implementation_each_family_has(
    precision: CpuPrecision, layers: str
) -> None:
    async with running(ENDING, precision=precision) as engine:
        assert set(engine.facts.kernels) == set(FAMILIES)
        assert engine.facts.kernels["layers"] == layers


async def test_a_language_that_the_checkpoint_lacks_is_refused_at_once(tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint_folder(ENDING), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["talker_config"]["codec_language_id"]["german"]
    (folder / "config.json").write_text(json.dumps(config))
    engine = Qwen3Engine(ModelChoice(str(folder)))
    await engine.start(lambda *_: None)
    assert "German" not in engine.facts.languages
    with pytest.raises(InvalidText):
        engine.open(UtteranceRequest("utterance", "German"))
    await engine.close()


async def test_a_cancelled_start_ends_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    engine = Qwen3Engine(ModelChoice(str(checkpoint_folder(ENDING)), cpu_precision="fp32"))
    begun = asyncio.Event()
    starting = asyncio.create_task(engine.start(lambda *_: begun.set()))
    await begun.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await engine.close()
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_arrivals_at_a_stopped_thread_are_refused_at_once() -> None:
    async with running(ENDING) as engine:
        thread = engine._thread
        assert thread is not None
        await engine.close()
        stream, sink = SpeechStream.create(buffer_samples=1)
        thread.speak(UtteranceRequest("late"), sink)
        with pytest.raises(Cancelled):
            await chunks_of(stream)
        with pytest.raises(TtsUnavailable):
            thread.run(lambda _model: iter(())).result(timeout=5)  # type: ignore[arg-type, return-value]


async def test_the_clip_of_the_warm_up_can_be_encoded() -> None:
    async with running(ENDING) as engine:
        assert (await engine.encode_voice(_noise())).tensors
