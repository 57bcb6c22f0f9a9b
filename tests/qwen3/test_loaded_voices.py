"""Memory that the engine keeps per voice: counted, and released with the voice's prompt."""

import gc
import weakref

import numpy as np
import numpy.typing as npt
import pytest

from makima_tts.engines.qwen3 import SynthesisOptions, prompts
from makima_tts.engines.qwen3.prompts import LoadedVoice
from makima_tts.model.voice_encoding import voice_from
from makima_tts.speech import UtteranceRequest, VoicePrompt
from makima_tts.voices.prompts import PromptLru, Reason
from tests.checkpoints.models import ENDING, small_model
from tests.qwen3.engines import begin, chunks_of, running, sound
from tests.qwen3.test_chunks import reference

TEXT = "The lamps are lit."
KEY = ("anna", 1)

Kept = weakref.WeakSet[LoadedVoice]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """The voices that engines hold, without the one for requests that name none."""
    loaded: Kept = weakref.WeakSet()

    class Watched(LoadedVoice):
        def __init__(self, *of: object) -> None:
            super().__init__(*of)  # type: ignore[arg-type]
            if self.encoded.codec:
                loaded.add(self)

    monkeypatch.setattr(prompts, "LoadedVoice", Watched)
    return loaded


def bytes_on_device(prompt: VoicePrompt) -> int:
    """Bytes for speaking English with it: its tensors without the codes, and its prefix KV cache."""
    model = small_model(ENDING)
    config = model.config.talker_config
    voice = voice_from(model, prompt.tensors)
    rows = len(model.prompts.write(model.tokenizer.encode(TEXT), "English", voice.rows).voice_prefix)
    a_row = config.num_hidden_layers * config.num_key_value_heads * config.head_size * 2 * 4
    tensors = sum(tensor.nbytes for name, tensor in prompt.tensors.items() if name != "codes")
    return tensors + rows * a_row


async def test_stored_prompts_keep_the_names_of_their_arrays() -> None:
    """Prompts on disk outlive the names of fields in the code."""
    async with running(ENDING) as engine:
        prompt = await engine.encode_voice(reference())
    assert set(prompt.tensors) == {
        "x_vector",
        "codes",
        "frame_rows",
        "transcript_rows",
        "codec.position",
        "codec.history",
        "codec.keys_values",
    }


async def test_tensors_and_prefix_cache_of_a_voice_are_counted_once() -> None:
    async with running(ENDING) as engine:
        prompt = await engine.encode_voice(reference())
        encoded_bytes = prompt.size_bytes
        assert encoded_bytes == sum(tensor.nbytes for tensor in prompt.tensors.values())
        for _ in range(2):
            await chunks_of(begin(engine, TEXT, TEXT, voice=prompt))
            assert prompt.size_bytes - encoded_bytes == bytes_on_device(prompt)


async def test_each_language_of_a_voice_has_its_own_prefix_cache() -> None:
    hidden = small_model("odd").config.talker_config.hidden_size
    async with running("odd", options=SynthesisOptions(max_frames=6)) as engine:
        tensors = {"x_vector": np.linspace(-1, 1, hidden, dtype=np.float32)}
        fresh, used = (VoicePrompt(engine.facts.fingerprint, tensors) for _ in range(2))

        async def spoken(language: str, voice: VoicePrompt) -> npt.NDArray[np.float32]:
            stream = engine.open(UtteranceRequest("utterance", language, seed=1, voice=voice))
            stream.feed(TEXT)
            stream.finish()
            return sound(await chunks_of(stream))

        expected = await spoken("German", fresh)
        english, german = await spoken("English", used), await spoken("German", used)
    assert np.abs(german - expected).max() < 2**-16  # how chunks are cut decides the last bits
    assert np.abs(english - expected).max() > 0.01


async def test_the_engine_frees_a_voice_that_the_cache_evicts(kept: Kept) -> None:
    evicted: list[Reason] = []
    async with running(ENDING) as engine:
        first, second = [await engine.encode_voice(reference()) for _ in range(2)]
        # Room for one that speaks and one that does not.
        room = first.size_bytes + second.size_bytes + bytes_on_device(first)
        lru = PromptLru(16, room, 60.0, evicted.append)
        lru.put(KEY, first, 0.0)
        lru.put(("berta", 1), second, 0.0)
        del first, second
        await chunks_of(begin(engine, TEXT, voice=lru.get(KEY, 0.0)))
        await chunks_of(begin(engine, TEXT, voice=lru.get(("berta", 1), 0.0)))
        assert (len(kept), evicted) == (2, [])
        assert lru.get(("berta", 1), 0.0) is not None
        gc.collect()
        assert (len(kept), evicted) == (1, ["bytes"])
        lru.discard("berta")
        gc.collect()
        assert not kept


async def test_an_evicted_voice_is_kept_until_its_utterance_ends(kept: Kept) -> None:
    async with running(ENDING) as engine:
        lru = PromptLru(16, 2**30, 60.0, lambda _reason: None)
        lru.put(KEY, await engine.encode_voice(reference()), 0.0)
        alone = sound(await chunks_of(begin(engine, TEXT, TEXT, voice=lru.get(KEY, 0.0))))
        stream = begin(engine, TEXT, TEXT, voice=lru.get(KEY, 0.0))
        heard = [await anext(stream)]
        lru.discard(KEY[0])
        gc.collect()
        assert len(kept) == 1
        heard += await chunks_of(stream)
        assert np.abs(sound(heard) - alone).max() < 2**-16
        await chunks_of(begin(engine, TEXT))  # once somebody else has spoken, the first has left
        gc.collect()
        assert not kept
