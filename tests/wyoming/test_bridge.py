"""The real wyoming client, a real bridge, a real service."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_read_event
from wyoming.info import Describe, Info
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice

from makima_tts import cli
from makima_tts.client import SpeechClient
from makima_tts.errors import InvalidMessage, TtsUnavailable
from makima_tts.wyoming import serve as serve_bridge
from tests.api.service import running
from tests.conftest import Serve
from tests.sentences import WORDLESS
from tests.transport.processes import ServerProcess
from tests.wyoming.bridge import (
    PATIENCE_S,
    bridge_command,
    bridge_to,
    client_of,
    sound_in,
    until,
    utterances_speaking,
)

pytestmark = pytest.mark.process

TEXT = "One sentence is said. And then another one, which is a little longer."


@pytest.fixture(scope="module")
def port(scripted_service: ServerProcess) -> Iterator[int]:
    with bridge_to(scripted_service.url) as port:
        yield port


async def error_of(port: int, *asked: Event) -> Error:
    """The error event, after which the bridge closes."""
    async with client_of(port) as client:
        for event in asked:
            await client.write_event(event)
        error = Error.from_event((await until(client, "error"))[-1])
        assert await client.read_event() is None
        return error


async def test_it_describes_the_service(port: int) -> None:
    async with client_of(port) as client:
        await client.write_event(Describe().event())
        (program,) = Info.from_event((await until(client, "info"))[-1]).tts
    assert program.supports_synthesize_streaming
    voices = {voice.name: voice for voice in program.voices}
    assert set(voices["narrator"].languages) == {"de", "en", "es", "fr", "it", "ja", "ko", "pt", "ru", "zh"}
    assert all(voice.installed for voice in program.voices)


async def test_a_text_is_spoken_as_our_own_client_hears_it(
    port: int, scripted_service: ServerProcess
) -> None:
    async with client_of(port) as client:
        for voice in (None, SynthesizeVoice(name="narrator"), SynthesizeVoice(language="de-AT")):
            await client.write_event(Synthesize(TEXT, voice).event())
            heard = await until(client, "audio-stop")
            assert heard[0].type == "audio-start"
            assert (heard[0].data["rate"], heard[0].data["width"], heard[0].data["channels"]) == (24000, 2, 1)
            url = f"ws://{scripted_service.host}:{scripted_service.port}/api/v1/speak"
            async with SpeechClient.connect(url) as ours:
                assert len(sound_in(heard)) == len(await ours.speak(TEXT).read())


async def test_a_streamed_text_is_spoken_before_it_ends(port: int) -> None:
    async with client_of(port) as client:
        await client.write_event(Synthesize(TEXT).event())
        whole = sound_in(await until(client, "audio-stop"))
        await client.write_event(SynthesizeStart().event())
        for part in (TEXT[:5], TEXT[5:30]):
            await client.write_event(SynthesizeChunk(part).event())
        begun = await until(client, "audio-chunk")
        await client.write_event(SynthesizeChunk(TEXT[30:]).event())
        # Home Assistant repeats the text for servers without streaming
        await client.write_event(Synthesize(TEXT).event())
        await client.write_event(SynthesizeStop().event())
        rest = await until(client, "synthesize-stopped")
        assert sound_in(begun + rest) == whole
        assert [event.type for event in begun + rest].count("audio-start") == 1
        assert rest[-2].type == "audio-stop"


async def test_texts_without_words_are_silent_and_what_is_queued_behind_them_is_spoken(port: int) -> None:
    async with client_of(port) as client:
        for text in WORDLESS:
            await client.write_event(Synthesize(text).event())
            for event in (SynthesizeStart(), SynthesizeChunk(text), SynthesizeStop()):
                await client.write_event(event.event())
        await client.write_event(Synthesize("Go on.").event())
        for _ in WORDLESS:
            for last in ("audio-stop", "synthesize-stopped"):
                assert sound_in(await until(client, last)) == bytes(2 * 4800)
        assert any(sound_in(await until(client, "audio-stop")))


async def test_halves_of_surrogate_pairs_are_joined_or_replaced(port: int) -> None:
    """The package for Python cannot send them; JavaScript's JSON does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def spoken(last: str, *events: Eventable) -> bytes:
        for event in events:
            writer.write(json.dumps(event.event().to_dict()).encode() + b"\n")
        heard: list[Event] = []
        while not heard or heard[-1].type != last:
            async with asyncio.timeout(PATIENCE_S):
                event_read = await async_read_event(reader)
            assert event_read is not None
            heard.append(event_read)
        return sound_in(heard)

    whole = await spoken("audio-stop", Synthesize("It was \N{THUMBS UP SIGN} here."))
    for half in ("\ud83d", "\udc4d"):
        assert await spoken("audio-stop", Synthesize(f"It was {half} here."))
    tokens = [SynthesizeChunk(token) for token in ("It was \ud83d", "\udc4d here.")]
    assert await spoken("synthesize-stopped", SynthesizeStart(), *tokens, SynthesizeStop()) == whole
    writer.close()
    await writer.wait_closed()


async def test_what_is_written_after_a_long_pause_is_spoken_too(tmp_path: Path) -> None:
    """Also many chunks of it: more than the bridge holds at once."""
    late = [*["on "] * 39, "on."]
    listening = asyncio.get_running_loop().create_future()
    async with running(tmp_path, text_stall_s=0.05) as service:
        bridge = asyncio.create_task(
            serve_bridge("tcp://127.0.0.1:0", service.socket_url, lambda uri, _: listening.set_result(uri))
        )
        async with client_of(int((await listening).rpartition(":")[2])) as client:
            await client.write_event(SynthesizeStart().event())
            await client.write_event(SynthesizeChunk("One sentence is said. ").event())
            begun = await until(client, "audio-chunk")
            await service.until(lambda: b'outcome="complete"} 1.0' in service.service.metrics.render())
            for chunk in late:
                await client.write_event(SynthesizeChunk(chunk).event())
            await client.write_event(SynthesizeStop().event())
            await client.write_event(Synthesize("Go on.").event())
            rest = await until(client, "synthesize-stopped")
            assert [event.type for event in begun + rest].count("audio-start") == 1
            assert any(sound_in(await until(client, "audio-stop")))
            await client.write_event(Synthesize("".join(late)).event())
            assert len(sound_in(begun + rest)) > len(sound_in(await until(client, "audio-stop")))
        bridge.cancel()


async def test_a_streamed_text_ends_at_the_beginning_of_the_next_one(port: int) -> None:
    async with client_of(port) as client:
        for text in ("It was here.", "Go on."):
            await client.write_event(SynthesizeStart().event())
            await client.write_event(SynthesizeChunk(text).event())
        await client.write_event(SynthesizeStop().event())
        for _ in range(2):
            assert any(sound_in(await until(client, "synthesize-stopped")))


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (Synthesize("Hello.", SynthesizeVoice(name="nobody")).event(), "VOICE_NOT_FOUND", "voice"),
        (Synthesize("Hello.", SynthesizeVoice(language="tlh")).event(), "INVALID_MESSAGE", "language"),
        (Synthesize("<speak>Hi</speak>", None, "ssml").event(), "INVALID_MESSAGE", "plain text"),
        (Synthesize("Good {fail} day").event(), "SYNTHESIS_ERROR", ""),
        (Event("synthesize"), "INVALID_MESSAGE", "missing"),
        (Event("synthesize", {"text": "Hello.", "voice": 5}), "INVALID_MESSAGE", "missing"),
    ],
)
async def test_a_text_that_cannot_be_spoken_gets_an_error_and_a_close(
    port: int, asked: Event, code: str, words: str
) -> None:
    error = await error_of(port, asked)
    assert error.code == code
    assert words in error.text


async def test_nonsense_is_hung_up_on(port: int) -> None:
    endless = b'{"type": "synthesize", "data_length": 99999999999}\n'
    for nonsense in (b"[]\n", b"{}\n", b'{"type": "synthesize", "data": [1]}\n', endless):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(nonsense)
        assert b"INVALID_MESSAGE" in await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_leaves_frees_its_place(port: int, scripted_service: ServerProcess) -> None:
    async with client_of(port) as client:
        await client.write_event(Synthesize("{slow 1}{endless}").event())
        await until(client, "audio-chunk")
        assert await asyncio.to_thread(utterances_speaking, scripted_service) == 1
    async with asyncio.timeout(10):
        while await asyncio.to_thread(utterances_speaking, scripted_service):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_an_unreachable_service_is_reported_and_tried_again(serve: Serve) -> None:
    first = serve()
    with bridge_to(first.url) as port:
        async with client_of(port) as client:
            await client.write_event(Synthesize("{slow 1}{endless}").event())
            await until(client, "audio-chunk")
            first.signal(signal.SIGKILL)
            first.wait()
            assert Error.from_event((await until(client, "error"))[-1]).code == "TTS_UNAVAILABLE"
        for asked in (Describe().event(), Synthesize("Hello.").event()):
            assert (await error_of(port, asked)).code == "TTS_UNAVAILABLE"
        serve(port=first.port)
        async with client_of(port) as client:
            await client.write_event(Synthesize("Hello.").event())
            assert sound_in(await until(client, "audio-stop"))


async def test_an_unusable_address_is_reported_in_a_sentence(port: int) -> None:
    for uri in ("nonsense", "tcp://127.0.0.1", "unix:///tmp/socket", "tcp://127.0.0.1:99999"):
        with pytest.raises(InvalidMessage, match="try one such as"):
            await serve_bridge(uri, "ws://127.0.0.1:9/", lambda *_: None)
    with pytest.raises(TtsUnavailable, match=r"cannot be listened on"):
        await serve_bridge(f"tcp://127.0.0.1:{port}", "ws://127.0.0.1:9/", lambda *_: None)


def test_without_its_package_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wyoming", None)
    monkeypatch.setattr(sys, "argv", ["makima-tts", "wyoming"])
    with pytest.raises(SystemExit, match=r"pip install 'makima-tts\[wyoming\]'"):
        cli.main()


async def test_ctrl_c_ends_it_without_output(scripted_service: ServerProcess) -> None:
    with ServerProcess(bridge_command(scripted_service.url)) as process:
        said = process.expect("tcp://", anywhere=True)
        async with client_of(int(said.strip().rpartition(":")[2])) as client:
            await client.write_event(Synthesize("{slow 1}{endless}").event())
            await until(client, "audio-chunk")
            process.signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait) == 130
        assert process.complaints == ""
