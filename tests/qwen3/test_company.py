"""Codes do not depend on other utterances, on the time of arrival, or on the prefill's chunks."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from makima_tts.engines.qwen3 import Qwen3Engine
from makima_tts.speech import SpeechStream, UtteranceRequest, VoicePrompt
from tests.checkpoints.models import ENDING
from tests.qwen3.engines import chunks_of, running
from tests.qwen3.test_chunks import reference

Codes = npt.NDArray[np.int64]
PIECES = ("The lamps are lit, and nobody is at home.", "Who is there?")


@dataclass(frozen=True)
class Speaker:
    name: str
    language: str
    voice: VoicePrompt | None
    seed: int

    def begin(self, engine: Qwen3Engine) -> SpeechStream:
        stream = engine.open(UtteranceRequest(self.name, self.language, self.voice, self.seed))
        for piece in PIECES[: 1 + self.seed % 2]:
            stream.feed(piece)
        stream.finish()
        return stream


async def test_codes_do_not_depend_on_the_other_utterances_or_when_they_come() -> None:
    """Two at once, two while they speak, in three voices and three languages. The voice with a transcript has
    a prompt of several parts, some of which are read between the frames of others."""
    heard: defaultdict[str, list[Codes]] = defaultdict(list)
    async with running(ENDING, watch=lambda name, codes: heard[name].append(codes)) as engine:
        cloned = await engine.encode_voice(reference())
        embedding = VoicePrompt(cloned.fingerprint, {"x_vector": cloned.tensors["x_vector"]})
        speakers = [
            Speaker("cloned", "English", cloned, 1),
            Speaker("in German", "German", cloned, 2),
            Speaker("by embedding", "Auto", embedding, 3),
            Speaker("nobody", "English", None, 4),
        ]
        alone = {}
        for speaker in speakers:
            await chunks_of(speaker.begin(engine))
            alone[speaker.name] = np.stack(heard.pop(speaker.name))
        first, second = (speaker.begin(engine) for speaker in speakers[:2])
        await anext(first)
        third = speakers[2].begin(engine)
        await anext(second)
        fourth = speakers[3].begin(engine)
        for stream in (first, second, third, fourth):
            await chunks_of(stream)
    for name, codes in alone.items():
        assert np.array_equal(np.stack(heard[name]), codes), name
