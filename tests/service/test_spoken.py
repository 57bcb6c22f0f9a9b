"""Ten sentences through a real server process and its socket, checked by speech recognition."""

from collections.abc import Iterator

import numpy as np
import pytest

from makima_tts.client import ServiceError, Speech, SpeechChunk, SpeechClient
from makima_tts.protocol import Start
from tests.conftest import service_process
from tests.sentences import SENTENCES
from tests.transcribe import transcribe, word_errors, words

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with the embedded engine and without a rate limit, because no one listens."""
    with service_process(tmp_path_factory.mktemp("service"), engine="preview", max_ahead_s=60) as server:
        server.until_listening()
        yield f"ws://{server.host}:{server.port}/api/v1/speak"


@pytest.mark.process
async def test_the_recognized_words_are_those_of_the_text(url: str) -> None:
    errors = 0
    async with SpeechClient.connect(url, Start(sample_rate=RATE_HZ)) as client:
        assert client.ready.engine == "preview"
        assert not client.ready.capabilities.cloning
        for sentence in SENTENCES:
            pcm = b"".join([chunk.pcm async for chunk in client.speak(sentence)])
            sound = (np.frombuffer(pcm, "<i2") / 32768).astype(np.float32)
            errors += word_errors(sentence, transcribe(sound, RATE_HZ))
    assert errors / sum(len(words(sentence)) for sentence in SENTENCES) <= 0.05


@pytest.mark.process
async def test_text_that_the_preview_engine_cannot_speak_is_refused_also_in_mid_utterance(url: str) -> None:
    async with SpeechClient.connect(url) as client:
        speech = client.speak("This part is English and is spoken. \u042d\u0442\u043e \u043d\u0435\u0442.")
        first = await anext(speech)
        assert len(first.pcm) > 1000
        with pytest.raises(ServiceError, match="Cyrillic") as refused:
            await rest_of(speech)
        assert refused.value.code == "INVALID_TEXT"


async def rest_of(speech: Speech) -> list[SpeechChunk]:
    return [chunk async for chunk in speech]
