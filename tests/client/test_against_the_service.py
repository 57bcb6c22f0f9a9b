"""The client and the real service, in a process of its own, with the scripted engine."""

import asyncio
import signal
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from makima_tts.client import (
    BlockingSpeechClient,
    ConnectionLost,
    ServiceError,
    SpeechClient,
    UtteranceCancelled,
)
from makima_tts.protocol import Start
from tests.client.fake_service import heard_of
from tests.conftest import Serve
from tests.transport.processes import ServerProcess

pytestmark = pytest.mark.process
PATIENCE_S = 20.0

TEXT = "One sentence is said. And then another one, which is a little longer, is said as well."


@pytest.fixture
def service(scripted_service: ServerProcess) -> ServerProcess:
    return scripted_service


def url_of(service: ServerProcess) -> str:
    return f"ws://{service.host}:{service.port}/api/v1/speak"


async def letters(text: str) -> AsyncIterator[str]:
    for letter in text:
        yield letter


async def test_a_streamed_text_sounds_like_the_whole_text(service: ServerProcess) -> None:
    async with SpeechClient.connect(url_of(service)) as client:
        whole = client.speak(TEXT)
        appended = client.speak(letters(TEXT))
        assert b"".join(await heard_of(whole)) == b"".join(await heard_of(appended))
        assert [s.text for s in whole.sentences] == [s.text for s in appended.sentences]
        assert " ".join(s.text for s in whole.sentences) == TEXT


async def test_the_received_audio_matches_the_figures_of_complete(service: ServerProcess) -> None:
    start = Start(sample_rate=48000, encoding="pcm32f")
    async with SpeechClient.connect(url_of(service), start) as client:
        speech = client.speak(TEXT)
        heard = await heard_of(speech)
        assert speech.complete is not None
        assert len(b"".join(heard)) / 4 / 48 == pytest.approx(speech.complete.audio_length_ms, abs=1)
        assert speech.complete.total_chunks == len(heard)
        assert speech.complete.text_length == len(TEXT)


async def test_halves_of_surrogate_pairs_are_joined_or_replaced(service: ServerProcess) -> None:
    units = ["Thumbs \ud83d", "\udc4d", " and \ud83d", " half.\ud83d"]

    async def tokens() -> AsyncIterator[str]:
        for unit in units:
            yield unit

    async with SpeechClient.connect(url_of(service)) as client:
        for text in ("".join(units), units, tokens()):
            speech = client.speak(text)
            assert await speech.read()
            assert speech.outgoing.text == "Thumbs \N{THUMBS UP SIGN} and \ufffd half.\ufffd"
            assert speech.complete is not None
            assert speech.complete.text_length == len(speech.outgoing.text)


async def test_what_is_written_after_a_long_pause_is_spoken_too(serve: Serve) -> None:
    """The service closes a text whose writer pauses; the client goes on with another utterance."""
    service = serve(text_stall_s=0.05)
    gap = asyncio.Event()

    async def paused() -> AsyncIterator[str]:
        for token in ("...", " The lamps", " are lit. And", " the doors are open."):
            yield token
            gap.clear()
            await gap.wait()

    async with SpeechClient.connect(url_of(service), Start(timings="word")) as client:
        speech = client.speak(paused())
        utterances = set[str]()
        audio = b""
        while speech.complete is None:
            before = speech.utterance_id
            async with asyncio.timeout(PATIENCE_S):
                while speech.utterance_id == before and not speech.over:  # noqa: ASYNC110 - closed by its time
                    await asyncio.sleep(0.001)
            utterances.add(before)
            gap.set()
        audio = await speech.read()
        whole = await client.speak("The lamps are lit.").read()
    assert len(utterances) == 5
    text = speech.outgoing.text
    assert text == "... The lamps are lit. And the doors are open."
    assert len(audio) > len(whole)
    assert speech.complete.text_length == len(text)
    assert speech.complete.audio_length_ms == len(audio) / 48
    assert " ".join(sentence.text for sentence in speech.sentences) == text
    times = [(sentence.start_ms, sentence.end_ms) for sentence in speech.sentences]
    assert sorted(times) == times
    assert times[-1][1] == speech.complete.audio_length_ms
    assert [text[word.offset : word.offset + word.length] for word in speech.words] == [
        word.word for word in speech.words
    ]
    assert speech.heard().remaining == ""


async def test_a_text_longer_than_one_message_is_spoken(serve: Serve) -> None:
    async with SpeechClient.connect(url_of(serve(max_text_chars=20))) as client:
        speech = client.speak(TEXT)
        await heard_of(speech)
        assert speech.complete is not None
        assert speech.complete.text_length == len(TEXT)


async def test_a_cancel_ends_what_has_no_end_and_the_next_is_spoken(service: ServerProcess) -> None:
    async with SpeechClient.connect(url_of(service)) as client:
        endless, after = client.speak("{endless}"), client.speak(TEXT)
        await anext(endless)
        await endless.cancel(played_ms=9.7)
        with pytest.raises(UtteranceCancelled) as cancelled:
            await heard_of(endless)
        assert cancelled.value.played_ms == 10
        assert (cancelled.value.text_spoken, cancelled.value.text_remaining) == ("", "{endless}")
        assert await heard_of(after)


async def test_a_refusal_is_typed_and_the_session_goes_on(service: ServerProcess) -> None:
    async with SpeechClient.connect(url_of(service)) as client:
        refused = client.speak("Hello.", voice="nobody-of-that-name")
        with pytest.raises(ServiceError, match="VOICE_NOT_FOUND"):
            await heard_of(refused)
        assert await heard_of(client.speak(TEXT))


async def test_stopping_is_answered_in_good_order(service: ServerProcess) -> None:
    async with SpeechClient.connect(url_of(service)) as client:
        speech = client.speak("{endless}")
        await anext(speech)
        await client.stop("enough")
        with pytest.raises(UtteranceCancelled):
            await heard_of(speech)


async def test_the_saved_file_holds_the_received_audio(service: ServerProcess, tmp_path: Path) -> None:
    async with SpeechClient.connect(url_of(service)) as client:
        heard = await client.speak(TEXT, seed=3).read()
        path = await client.speak(letters(TEXT), seed=3).save(tmp_path / "said.wav")
    with wave.open(str(path)) as saved:
        assert saved.readframes(saved.getnframes()) == heard


async def test_a_pulled_plug_is_survived(serve: Serve) -> None:
    """The current utterance is lost; queued and later ones are spoken by the next process."""
    first = serve()
    async with SpeechClient.connect(url_of(first)) as client:
        spoken, waiting = client.speak("{slow 1}{endless}"), client.speak(TEXT)
        await anext(spoken)
        first.signal(signal.SIGKILL)
        first.wait()
        with pytest.raises(ConnectionLost):
            await heard_of(spoken)
        second = serve(port=first.port)
        assert await waiting.read()
        second.signal(signal.SIGTERM)
        second.wait()
        speech = client.speak(TEXT)
        serve(port=first.port)
        assert await speech.read()


def test_it_speaks_to_code_without_a_loop(service: ServerProcess, tmp_path: Path) -> None:
    with BlockingSpeechClient(url_of(service)) as client:
        speech = client.speak(iter(["Hello, ", "you."]))
        assert sum(len(chunk.pcm) for chunk in speech) > 0
        assert speech.speech.complete is not None
        path = client.speak(TEXT, seed=3).save(tmp_path / "said.wav")
        assert client.speak(TEXT, seed=3).read() == path.read_bytes()[44:]
        endless = client.speak("One. {slow 1}{endless}")
        next(endless)
        client.interrupt(played_ms=10)
        with pytest.raises(UtteranceCancelled):
            endless.read()
