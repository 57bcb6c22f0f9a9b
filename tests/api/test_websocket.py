"""Promises of the WebSocket that need a real socket: order, cancel, pace, bounds, origins, life."""

import asyncio
import base64
import time
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from makima_tts.backends import ScriptedEngine
from tests.api.conftest import Run
from tests.api.service import RunningService

LONG = "A sentence that goes on {endless} without end."


def audio_of(frames: list[Any]) -> bytes:
    return b"".join(frame for frame in frames if isinstance(frame, bytes))


def strangeness(tone: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The largest deviation from x[n-1] + x[n+1] = c x[n], which every pure tone obeys, per its level."""
    around, here = tone[:-2] + tone[2:], tone[1:-1]
    c = around @ here / (here @ here)
    return float(np.abs(around - c * here).max() / np.abs(tone).max())


# Audio


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("encoding", ["pcm16", "pcm32f"])
async def test_every_rate_and_encoding_is_one_unbroken_tone(
    service: RunningService, rate_hz: int, encoding: str
) -> None:
    async with service.started(sampleRate=rate_hz, encoding=encoding) as client:
        await client.send("speak", text="Forty or so characters make two seconds.")
        complete, before = await client.until("complete")
    dtype = "<i2" if encoding == "pcm16" else "<f4"
    pcm = np.frombuffer(audio_of(before), dtype).astype(np.float64)
    assert abs(pcm.size / rate_hz * 1000 - complete["audioLengthMs"]) <= 1
    # A lost, repeated or bent sample would stand out; the tone's own begin and end do, by design.
    assert strangeness(pcm[rate_hz // 20 : -rate_hz // 20]) < 0.002


async def test_json_transport_carries_the_same_bytes(service: RunningService) -> None:
    text = {"text": "The same words, twice.", "seed": 5}
    async with service.started() as client:
        await client.send("speak", **text)
        _, before = await client.until("complete")
    async with service.started(transport="json") as client:
        await client.send("speak", **text)
        complete, chunks = await client.until("complete")
    assert all(isinstance(chunk, dict) for chunk in chunks)
    *counted, last = [chunk for chunk in chunks if isinstance(chunk, dict)]
    assert b"".join(base64.b64decode(chunk["data"]) for chunk in counted) == audio_of(before)
    assert [chunk["sequenceNumber"] for chunk in chunks if isinstance(chunk, dict)] == [
        *range(1, len(chunks) + 1)
    ]
    assert (last["isFinal"], last["data"], complete["totalChunks"]) == (True, "", len(counted))


# Cancelling


async def test_client_cancels_while_audio_drains(service: RunningService) -> None:
    async with service.started() as client:
        await client.send("speak", text=LONG, utteranceId="a")
        await client.send("speak", text="Queued behind it.", utteranceId="b")
        while not isinstance(await client.next(), bytes):
            pass
        await client.send("cancel", utteranceId="a", playedMs=10)
        cancelled, _ = await client.until("error")
        assert (cancelled["code"], cancelled["utteranceId"], cancelled["playedMs"]) == ("CANCELLED", "a", 10)
        complete, before = await client.until("complete")
        assert complete["utteranceId"] == "b"
        assert len(audio_of(before)) == complete["audioLengthMs"] * 48


async def test_an_unnamed_utterance_can_be_cancelled_whatever_names_came_before(
    service: RunningService,
) -> None:
    async with service.started() as client:
        await client.send("speak", text="Named as the server would.", utteranceId="u1")
        await client.until("complete")
        await client.send("speak", text=LONG)
        while not isinstance(await client.next(), bytes):
            pass
        await client.send("cancel")
        assert (await client.until("error"))[0]["utteranceId"] == "u2"
        await service.until_idle()


async def test_json_audio_waits_for_the_socket_as_binary_audio_does(service: RunningService) -> None:
    async with service.started(transport="json", sampleRate=48000, encoding="pcm32f") as client:
        client.socket.transport.pause_reading()
        await client.send("speak", text=LONG)
        # What is on the way lies in the sockets' buffers; the engine waits for credit, far from the bound.
        await service.until_active(1)
        before = -1.0
        while (sent_s := service.service.metrics.audio_s._value.get()) != before:
            before = sent_s
            await asyncio.sleep(0.05)
        assert 0 < sent_s < 10
        client.socket.transport.resume_reading()
        await client.send("cancel")
        assert (await client.until("error"))[0]["code"] == "CANCELLED"


async def test_a_disconnect_frees_the_engine(service: RunningService) -> None:
    async with service.started() as client:
        await client.send("speak", text=LONG)
        while not isinstance(await client.next(), bytes):
            pass
        assert service.service.engine.health().active == 1
        client.socket.transport.abort()
    await service.until_idle()


@pytest.mark.parametrize("mark", ["fail", "oom", "nan", "foreign"])
async def test_an_engine_failure_takes_no_other_utterance_with_it(service: RunningService, mark: str) -> None:
    codes = {"fail": "SYNTHESIS_ERROR", "oom": "GPU_OUT_OF_MEMORY"}
    codes |= {"nan": "SYNTHESIS_ERROR", "foreign": "INVALID_TEXT"}
    async with service.started() as client, service.started() as other:
        await other.send("speak", text="Undisturbed by any of this.")
        await client.send("speak", text=f"It breaks {{{mark}}} here.", utteranceId="a")
        await client.send("speak", text="And goes on.", utteranceId="b")
        error, _ = await client.until("error")
        assert (error["code"], error["utteranceId"]) == (codes[mark], "a")
        assert (await client.until("complete"))[0]["utteranceId"] == "b"
        await other.until("complete")


# Voices


async def test_nobody_waits_for_the_voice_of_a_client_that_is_gone(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding = asyncio.Event()

    async def never(wanted: str | None) -> None:
        encoding.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(service.service.voices, "resolve", never)
    async with service.client() as client:
        await client.send("start")
        await encoding.wait()
        client.socket.transport.abort()
    await asyncio.wait_for(service.service.drained(), 5)


async def test_a_voice_that_breaks_the_unexpected_way_ends_the_session_in_words(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_said = asyncio.Event()

    async def broken(wanted: str | None) -> None:
        await both_said.wait()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(service.service.voices, "resolve", broken)
    async with service.client() as client:
        await client.send("start")
        await client.send("speak", text="Queued meanwhile.", utteranceId="a")
        await client.send("ping")
        await client.until("pong")
        both_said.set()
        errors = [frame for frame in await client.rest() if isinstance(frame, dict)]
        assert [error["code"] for error in errors] == ["TTS_UNAVAILABLE"] * 2
        assert client.socket.close_code == 1011


# Pace


async def test_a_writer_who_pauses_makes_nobody_late(service: RunningService) -> None:
    async with service.started() as client:
        await client.send("speak", utteranceId="a", final=False, text="Short. ")
        await client.send("flush", utteranceId="a")
        while not isinstance(await client.next(), bytes):
            pass
        await asyncio.sleep(0.7)  # the listener runs dry: this is time itself, not a wait for something
        await client.send("speak", utteranceId="a", text="And the rest of it.")
        await client.until("complete")
        assert service.service.metrics.underruns._value.get() == 0


async def test_audio_runs_ahead_of_the_listener_by_no_more_than_the_bound(run: Run) -> None:
    async with run(max_ahead_s=0.4) as service, service.started() as client:
        await client.send("speak", text=LONG)
        while not isinstance(first := await client.next(), bytes):
            pass
        began_s, heard_s = time.monotonic(), len(first) / 48_000
        while time.monotonic() - began_s < 0.6:
            frame = await client.next()
            heard_s += len(frame) / 48_000
            assert heard_s <= time.monotonic() - began_s + 0.4 + 0.2
        assert heard_s >= 0.6


# Admission


async def test_foreign_pages_are_refused_before_the_upgrade(run: Run) -> None:
    async with run(allowed_origins="https://makima.example") as service:
        own = service.url
        for origin in (
            own,
            "http://localhost:5173",
            "http://127.0.0.1:9",
            "http://[::1]:1",
            "https://makima.example",
        ):
            async with service.client(origin=origin) as client:
                assert (await client.until("ready"))[0]
        for origin in (
            "http://[",
            "https://evil.example",
            "http://localhost.evil.example",
            "null",
            "https://makima.example.net",
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with service.client(origin=origin):
                    pass
            assert refused.value.response.status_code == 403


async def test_a_full_house_turns_away_with_1013(run: Run) -> None:
    async with run(max_connections=1) as service, service.client() as first:
        await first.until("ready")
        async with service.client(subprotocols=["makima.tts.v1"]) as second:
            assert second.socket.subprotocol == "makima.tts.v1"
            assert (await second.until("error"))[0]["code"] == "RATE_LIMITED"
            assert await second.close_code() == 1013


async def test_connecting_too_often_is_turned_away_with_4429(run: Run) -> None:
    async with run(connects_per_minute=2) as service:
        for _ in range(2):
            async with service.client() as client:
                await client.until("ready")
        async with service.client() as third:
            assert (await third.until("error"))[0]["retryAfterMs"] > 0
            assert await third.close_code() == 4429


async def test_no_room_with_the_engine_is_rate_limited(run: Run) -> None:
    async with run(ScriptedEngine(capacity=1)) as service:
        async with service.started() as first, service.started() as second:
            await first.send("speak", text=LONG)
            while not isinstance(await first.next(), bytes):
                pass
            await second.send("speak", text="No room for this.")
            error, _ = await second.until("error")
            assert error["code"] == "RATE_LIMITED"
            assert error["retryAfterMs"] > 0


# Loading


async def test_a_page_that_speaks_while_the_model_loads_is_heard(run: Run) -> None:
    gate = asyncio.Event()
    async with run(ScriptedEngine(load_gate=gate)) as service:
        async with service.client(subprotocols=["makima.tts.v1"]) as page:
            await page.send("speak", text="Said too early.")
            loading, _ = await page.until("loading")
            assert 0 <= loading["progress"] <= 1
            gate.set()
            ready, _ = await page.until("ready")
            assert ready["engine"] == "scripted"
            await page.until("audio_end")


async def test_a_model_that_cannot_be_loaded_is_told(run: Run) -> None:
    gate = asyncio.Event()
    async with run(ScriptedEngine(load_gate=gate, fail_to_load=True)) as service:
        async with service.client() as client:
            gate.set()
            assert (await client.until("error"))[0]["code"] == "TTS_UNAVAILABLE"
            assert await client.close_code() == 1011


async def test_loading_longer_than_the_limit_is_told(run: Run) -> None:
    async with run(ScriptedEngine(load_gate=asyncio.Event()), load_timeout_s=0.05) as service:
        async with service.client() as client:
            assert (await client.until("error"))[0]["code"] == "MODEL_LOADING"
            assert await client.close_code() == 1013


# Contracts


async def test_an_interrupt_silences_every_session_of_the_contract(service: RunningService) -> None:
    async with service.started(contractId="c") as one, service.started(contractId="c") as two:
        async with service.started(contractId="d") as stranger:
            for client in (one, two, stranger):
                await client.send("speak", text=LONG)
                while not isinstance(await client.next(), bytes):
                    pass
            await one.send("speak", text="Queued.")
            await one.send("ping", id="queued")
            await one.until("pong")
            async with service.http() as http:
                answer = await http.post("/api/v1/contracts/c/interrupt")
            assert answer.json() == {"interrupted": 3}
            for client, expected in ((one, 2), (two, 1)):
                for _ in range(expected):
                    assert (await client.until("error"))[0]["code"] == "CANCELLED"
            assert isinstance(await stranger.next(), bytes)


async def test_an_interrupt_reaches_a_session_that_waits_for_the_model_and_not_one_that_left(
    run: Run,
) -> None:
    gate = asyncio.Event()
    async with run(ScriptedEngine(load_gate=gate)) as service, service.client() as early:
        await early.send("start", contractId="a/b")
        await early.send("speak", text="Queued before ready.")
        async with service.http() as http:
            async with asyncio.timeout(5):
                while (await http.post("/api/v1/contracts/a%2Fb/interrupt")).json() != {"interrupted": 1}:
                    pass
            gate.set()
            assert (await early.until("error"))[0]["code"] == "CANCELLED"
            await early.send("start")
            await early.until("started")
            assert (await http.post("/api/v1/contracts/a%2Fb/interrupt")).json() == {"interrupted": 0}


# Bad clients


async def test_binary_frames_and_nonsense_are_told_and_the_twentieth_closes(service: RunningService) -> None:
    async with service.started() as client:
        for number in range(20):
            await client.socket.send(b"\0" if number % 2 else "nonsense")
        frames = await client.rest()
        assert [frame["code"] for frame in frames if isinstance(frame, dict)] == ["INVALID_MESSAGE"] * 20
        assert client.socket.close_code == 1008


async def test_nothing_a_user_said_is_logged(
    service: RunningService, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with service.started(authToken="geheim-1", contractId="geheim-2") as client:
        await client.send("speak", text="Geheim {fail} bleibt geheim.", utteranceId="geheim-3")
        await client.until("error")
        await client.socket.send('{"type":"geheim"}')
        await client.socket.send('{"type":"speak","text":"geheim","seed":"geheim"}')
        await client.until("error")
        await client.until("error")
        await client.send("stop", reason="geheim")
        await client.rest()
    async with service.http() as http:
        metrics = (await http.get("/metrics")).text
    out, err = capfd.readouterr()
    assert "geheim" not in (metrics + out + err + caplog.text).lower()


# Life


async def test_a_draining_service_lets_utterances_finish_and_takes_no_new_ones(
    service: RunningService,
) -> None:
    async with service.started() as client, service.client() as idle:
        await idle.until("ready")
        await client.send("speak", text="Slowly {slow 0.05} to the end of it.")
        while not isinstance(await client.next(), bytes):
            pass
        service.service.begin_drain()
        assert (await idle.until("stopped"))[0]["reason"] == "draining"
        assert await idle.close_code() == 1001
        await client.send("speak", text="Too late.")
        assert (await client.until("error"))[0]["code"] == "TTS_UNAVAILABLE"
        await client.until("complete")
        assert (await client.until("stopped"))[0]["reason"] == "draining"
        assert await client.close_code() == 1001
        async with service.client() as late:
            assert await late.close_code() == 1001
        async with service.http() as http:
            assert (await http.get("/ready")).status_code == 503
            assert (await http.get("/health")).status_code == 200
        await asyncio.wait_for(service.service.drained(), 5)


async def test_an_idle_session_is_closed_with_its_reason(run: Run) -> None:
    async with run(idle_timeout_s=0.1) as service:
        async with service.started() as client:
            assert (await client.until("stopped"))[0]["reason"] == "idle"
            assert await client.close_code() == 4408
        async with service.client() as page:
            assert (await page.until("stopped"))[0]["reason"] == "idle"
            assert await page.close_code() == 1000


async def test_any_interleaving_of_many_clients_leaves_nothing_behind(service: RunningService) -> None:
    async def visit(number: int) -> None:
        async with service.client() as client:
            await client.send("speak", text=LONG if number % 2 else "A short one.")
            if number % 3 == 0:
                await client.until("ready")
            if number % 5 == 0:
                client.socket.transport.abort()
            else:
                await client.send("stop")
                await client.rest()

    await asyncio.gather(*(visit(number) for number in range(40)))
    await service.until_idle()
    await asyncio.wait_for(service.service.drained(), 5)
    assert service.service.engine.health().active == 0
