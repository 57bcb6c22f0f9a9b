"""Speech of Qwen3-TTS through the real server, one client alone and several at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from makima_tts.protocol import Start
from tests.checkpoints.models import ENDING, checkpoint_folder
from tests.conftest import service_process
from tests.qwen3.serving import (
    chunks_of_text,
    get,
    plain_session,
    qwen3_settings,
    same_sound,
    samples,
    session,
    sound_of,
    upload,
)
from tests.transport.processes import ServerProcess

pytestmark = pytest.mark.process

STREAMS = 2
SENTENCE = "The keeper climbs the stairs and looks out over the water."
TEXT = "Good evening to all of you. The lamps are lit, and the harbour begins to glow."
LONG_TEXT = "The keeper climbs the stairs, and the lamps are lit, and " * 15


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests here: no test leaves state that another depends on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        settings = qwen3_settings(max_streams=STREAMS)
        process = service_process(tmp_path_factory.mktemp("served"), **settings)
    with process:
        yield process.until_listening()
        assert "Traceback" not in process.complaints


async def test_the_server_introduces_itself_and_speaks_with_the_narrator(server: ServerProcess) -> None:
    async with session(server, Start(voice="makima")) as client:
        ready, started = client.ready, client.started
    assert (ready.engine, ready.model) == ("qwen3", checkpoint_folder(ENDING).name)
    assert ready.capabilities.cloning
    assert ready.capabilities.text_streaming
    assert ready.voice_loaded
    assert ready.voice == started.voice == "narrator"
    assert "makima is not available: It has no clip yet" in (started.warning or "")
    answer = await get(server, "/ready")
    assert (answer.status_code, answer.json()["engine"]) == (200, "qwen3")


async def test_the_same_seed_gives_the_same_sound(server: ServerProcess) -> None:
    async with session(server) as client:
        first, again, other = [client.speak(TEXT, seed=seed) for seed in (7, 7, 8)]
        heard = [await sound_of(speech) for speech in (first, again, other)]
        assert [sentence.text for sentence in first.sentences] == [
            "Good evening to all of you.",
            "The lamps are lit, and the harbour begins to glow.",
        ]
    assert first.complete is not None
    assert again.complete is not None
    assert first.complete.audio_length_ms == again.complete.audio_length_ms == heard[0].size / 24 > 1000
    assert first.complete.finish_reason == "stop"
    assert same_sound(heard[0], heard[1])
    assert not same_sound(heard[0], heard[2])


async def test_a_page_hears_an_utterance_and_its_end(server: ServerProcess) -> None:
    async with session(server) as ours:
        expected = await sound_of(ours.speak(TEXT, seed=3))
    async with plain_session(server) as page:
        await page.send("speak", text=TEXT, seed=3)
        (ready, before) = await page.until("ready")
        assert (ready["engine"], before) == ("qwen3", [])
        _, heard = await page.until("complete")
        assert same_sound(samples(b"".join(frame for frame in heard if isinstance(frame, bytes))), expected)
        assert all(heard)
        end = {"type": "audio_end", "sample_rate": 24000, "format": "pcm_s16le", "channels": 1}
        assert await page.next() == end


async def test_two_at_once_sound_as_each_does_alone(server: ServerProcess) -> None:
    async with session(server) as one, session(server) as two:
        alone = [await sound_of(client.speak(TEXT, seed=seed)) for client, seed in ((one, 1), (two, 2))]
        speeches = one.speak(TEXT, seed=1), two.speak(TEXT, seed=2)
        both = [[chunk async for chunk in speech] for speech in speeches]
    begun = [chunks[0].received_s for chunks in both]
    ended = [chunks[-1].received_s for chunks in both]
    assert max(begun) < min(ended)
    for chunks, expected in zip(both, alone, strict=True):
        assert same_sound(samples(b"".join(chunk.pcm for chunk in chunks)), expected)


async def test_a_cancel_frees_the_slot_at_once(server: ServerProcess) -> None:
    async with (
        plain_session(server) as holder,
        plain_session(server) as speaker,
        plain_session(server) as next_one,
    ):
        for client in (holder, speaker, next_one):
            await client.send("start")
            await client.until("started")
        await holder.send("speak", utteranceId="held", text=f"{SENTENCE} And then ", final=False)
        await speaker.send("speak", utteranceId="long", text=LONG_TEXT)
        for client in (holder, speaker):
            assert isinstance(await client.next(), bytes)
        await next_one.send("speak", text=SENTENCE)
        refused, _ = await next_one.until("error", "complete")
        assert refused["code"] == "RATE_LIMITED"
        assert 0 < refused["retryAfterMs"] <= 30_000

        await speaker.send("cancel")
        cancelled, _ = await speaker.until("error")
        await next_one.send("speak", text=SENTENCE)
        assert isinstance(await next_one.next(), bytes)
        assert (cancelled["code"], cancelled["utteranceId"]) == ("CANCELLED", "long")
        await next_one.until("complete")
        await holder.send("speak", utteranceId="held", text="it is dark.", final=True)
        complete, _ = await holder.until("complete", "error")
        assert complete["finishReason"] == "stop"


async def test_a_partial_text_sounds_like_the_whole_text(server: ServerProcess) -> None:
    async with session(server) as client:
        whole, appended = client.speak(TEXT, seed=5), client.speak(_written(TEXT), seed=5)
        assert same_sound(await sound_of(whole), await sound_of(appended))
        assert [each.text for each in whole.sentences] == [each.text for each in appended.sentences]


async def test_an_upload_changes_no_other_stream_and_its_voice_speaks(server: ServerProcess) -> None:
    async with session(server) as client:
        alone = await sound_of(client.speak(TEXT, seed=4))
        speech = client.speak(TEXT, seed=4)
        heard, added = await asyncio.gather(sound_of(speech), upload(server, "guest"))
        assert same_sound(heard, alone)
        assert added["voice"]["available"]
        cloned = await sound_of(client.speak(TEXT, seed=4, voice=added["voice"]["id"]))
        assert not same_sound(cloned, alone)


async def _written(text: str) -> AsyncIterator[str]:
    for part in chunks_of_text(text):
        yield part
        await asyncio.sleep(0)
