"""Ten sentences through a real server process and its socket, checked by speech recognition."""

from collections.abc import Iterator

import numpy as np
import pytest

from makima_tts.client import ServiceError, SpeechClient
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
async def test_text_in_another_script_is_skipped_with_a_warning_and_alone_is_refused(url: str) -> None:
    foreign = "\u042d\u0442\u043e \u043d\u0435\u0442."
    async with SpeechClient.connect(url) as client:
        speech = client.speak(f"This part is English and is spoken. {foreign}")
        assert sum([len(chunk.pcm) async for chunk in speech]) > 1000
        assert speech.complete is not None
        assert "Cyrillic" in (speech.complete.warning or "")
        with pytest.raises(ServiceError, match="Cyrillic") as refused:
            await anext(client.speak(foreign))
        assert refused.value.code == "INVALID_TEXT"
