"""Audio on a real socket: order, cancels, pace; bad clients; what is logged."""

import asyncio
import base64
import threading
import time
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from makima_tts import speaking
from makima_tts.audio import Pcm, PcmEncoder, pcm
from makima_tts.engines import PreviewEngine
from tests.api.conftest import Run
from tests.api.service import RunningService
from tests.audio.streams import decoded

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


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
async def test_a_telephone_hears_one_unbroken_tone(
    service: RunningService, encoding: Literal["mulaw", "alaw"]
) -> None:
    async with service.client() as client:
        await client.send("start", encoding=encoding)
        started, _ = await client.until("started")
        await client.send("speak", text="Forty or so characters make two seconds.")
        complete, before = await client.until("complete")
    assert (started["encoding"], started["sampleRate"]) == (encoding, 8000)
    pcm, _ = decoded(audio_of(before), encoding, 8000)
    assert pcm.size / 8 == pytest.approx(complete["audioLengthMs"], abs=1)
    # Its steps are coarse where it is loud; where a sample is lost, mostly it is 0.1 to 0.2.
    assert strangeness(pcm[400:-400].astype(np.float64)) < 0.1


@pytest.mark.parametrize("speed", [0.5, 1.25])
async def test_figures_of_time_are_of_the_audio_at_the_speed_asked_for(
    service: RunningService, speed: float
) -> None:
    text = "A first sentence here. A second one."
    async with service.started(transport="json", events=True, speed=speed) as client:
        await client.send("speak", text=text)
        complete, before = await client.until("complete")
    told = [message for message in before if isinstance(message, dict)]
    data = b"".join(base64.b64decode(each["data"]) for each in told if each["type"] == "audioChunk")
    ends_ms = [each["endMs"] for each in told if each["type"] == "sentence"]
    assert complete["audioLengthMs"] == len(data) / 48 == pytest.approx(60 * len(text) / speed)
    assert ends_ms[-1] == pytest.approx(complete["audioLengthMs"], abs=1)
    assert all(each["timestampMs"] <= complete["audioLengthMs"] for each in told if "timestampMs" in each)


@pytest.mark.parametrize("speed", [1.0, 1.25])
async def test_others_are_not_kept_waiting_while_ffmpeg_is_loaded_and_stretches(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, speed: float
) -> None:
    on_the_loop: list[bool] = []

    class Noted(PcmEncoder):
        def __init__(self, *args: Any, **options: Any) -> None:
            on_the_loop.append(threading.current_thread() is threading.main_thread())
            super().__init__(*args, **options)

        def encode(self, samples: Pcm) -> bytes:
            on_the_loop.append(threading.current_thread() is threading.main_thread())
            return super().encode(samples)

    monkeypatch.setattr(pcm, "PcmEncoder", Noted)
    async with service.started(speed=speed) as client:
        await client.send("speak", text="A sentence.")
        await client.until("complete")
    assert set(on_the_loop) == {speed == 1.0}


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


async def test_the_preview_engine_leaves_a_foreign_word_out_and_says_so(run: Run) -> None:
    async with run(PreviewEngine()) as service, service.started() as client:
        await client.send("speak", text="The word \u041f\u0440\u0438\u0432\u0435\u0442 is a greeting.")
        complete, audio = await client.until("complete")
        assert "Cyrillic" in complete["warning"]
        assert any(isinstance(frame, bytes) for frame in audio)
        await client.send(
            "speak",
            text="\u041f\u0440\u0438\u0432\u0435\u0442. \u041f\u043e\u043a\u0430 \u0432\u0441\u0435\u043c.",
        )
        error, _ = await client.until("error")
        assert error["code"] == "INVALID_TEXT"
        await client.send("speak", text="1234567890123456789012345678901234567890 \u22125 \u2460 3,14\u20ac")
        complete, _ = await client.until("complete")
        assert "warning" not in complete


async def test_a_finished_sentence_is_spoken_while_its_writer_calls_a_tool(run: Run) -> None:
    async with run(text_idle_s=0.02) as service, service.started(events=True) as client:
        await client.send("speak", utteranceId="a", final=False, text="A first sentence here. Then ")
        spoken, _ = await client.until("sentence")
        assert spoken["text"] == "A first sentence here."
        await client.send("speak", utteranceId="a", text="it goes on.")
        spoken, _ = await client.until("sentence")
        assert spoken["text"] == "Then it goes on."
        await client.until("complete")


async def test_a_pause_in_the_text_is_not_counted_as_late_audio(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service.started() as client:
        await client.send("speak", utteranceId="a", final=False, text="Short. ")
        await client.send("flush", utteranceId="a")
        while not isinstance(await client.next(), bytes):
            pass
        await client.send("ping")
        await client.until("pong")
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 60)
        monkeypatch.setattr(speaking, "time", later)  # the listener has run dry
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
