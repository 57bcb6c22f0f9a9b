"""Runs livekit speakers, in the environment with livekit-agents.

In: the address of a service with the scripted engine. Out: observations of each stream, as JSON on stdout.
Does not know: the expected values; the tests compare them, in an environment without livekit.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, APIConnectOptions, APIError, tts
from livekit.agents.utils import http_context
from livekit.agents.voice import io
from livekit.plugins import openai

from tests.clients.gauges import PATIENCE_S, falls_silent_meanwhile, gauge

sys.path.append(str(Path(__file__).parents[2] / "integrations" / "livekit"))
import makima_livekit

HOST = sys.argv[1]
ONCE = APIConnectOptions(max_retry=0, timeout=PATIENCE_S)
TEXT = "The lamps are lit."
# livekit itself drops emoji, rules, marks of code and blank turns.
WORDLESS = ("...", "?!") * 3
LONG = "{slow 0.2}This would take very long. {endless}"
# The OpenAI plugin requests audio from the older models, and events from all others.
MODELS = {"audio": "tts-1", "sse": "gpt-4o-mini-tts"}
FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
Seen = dict[str, Any]


def openai_tts(model: str, audio_format: str = "pcm", voice: str = "ash") -> tts.TTS[Any]:
    return openai.TTS(
        base_url=f"http://{HOST}/v1", api_key="any", model=model, voice=voice, response_format=audio_format
    )


def makima_tts(voice: str | None = None, host: str = HOST, **options: Any) -> makima_livekit.TTS:
    return makima_livekit.TTS(url=f"ws://{host}/api/v1/speak", voice=voice, **options)


def heard(frame: rtc.AudioFrame) -> Seen:
    return {"audio_ms": round(1000 * frame.duration), "rate_hz": frame.sample_rate}


async def spoken(speaker: tts.TTS[Any], text: str = TEXT) -> Seen:
    async with speaker:
        return heard(await speaker.synthesize(text, conn_options=ONCE).collect())


async def in_every_format(model: str) -> dict[str, Seen]:
    return {name: await spoken(openai_tts(model, name)) for name in FORMATS}


async def who_closes_a_stream_is_obeyed(speaker: tts.TTS[Any]) -> Seen:
    """Closes a stream, then speaks again."""
    async with speaker:
        stream = speaker.synthesize(LONG, conn_options=ONCE)
        await anext(stream)
        speaking = gauge(HOST, "utterances_speaking")
        await stream.aclose()
        silenced = await falls_silent_meanwhile(HOST)
        then = await speaker.synthesize("Go on.", conn_options=ONCE).collect()
        return {"speaking": speaking, "silenced": silenced, "then": heard(then)}


async def a_turn_that_is_interrupted_leaves_the_connection() -> Seen:
    before = gauge(HOST, "sessions_opened_total")
    async with makima_tts() as speaker:
        reused = []
        speaker.on("metrics_collected", lambda metrics: reused.append(metrics.connection_reused))
        stream = speaker.stream(conn_options=ONCE)
        stream.push_text(LONG)
        await anext(stream)
        await stream.aclose()
        silenced = await falls_silent_meanwhile(HOST)
        then = await written(speaker, ["Go", " on", "."])
        connections = gauge(HOST, "sessions_opened_total") - before
    return {"silenced": silenced, "then": then, "connections": connections, "reused": reused[-1]}


async def a_connection_is_made_before_the_first_turn() -> Seen:
    async with makima_tts() as speaker:
        reused = []
        speaker.on("metrics_collected", lambda metrics: reused.append(metrics.connection_reused))
        speaker.prewarm()
        await asyncio.gather(*speaker._prewarming)
        return {"heard": await written(speaker, ["Go on."]), "reused": reused}


async def written(speaker: makima_livekit.TTS, tokens: list[str]) -> Seen:
    async with speaker.stream(conn_options=ONCE) as stream:
        for token in tokens:
            stream.push_text(token)
        stream.end_input()
        return heard(rtc.combine_audio_frames([event.frame async for event in stream]))


async def a_turn_is_heard_while_it_is_written() -> Seen:
    """The rest of the text is written once audio of its beginning has arrived."""
    async with makima_tts() as speaker, speaker.stream(conn_options=ONCE) as stream:
        for token in ("The", " la", "mps are", " lit", ". The ", "doors", " are"):
            stream.push_text(token)
        first = await anext(stream)
        stream.push_text(" open.")
        stream.end_input()
        rest = [event async for event in stream]
        frame = rtc.combine_audio_frames([first.frame, *(event.frame for event in rest)])
        return heard(frame) | {"final": [event.is_final for event in rest][-1]}


async def what_is_written_after_a_pause_is_heard(host: str) -> Seen:
    """``host``: a service that closes a text after a short pause."""
    async with makima_tts(host=host) as speaker, speaker.stream(conn_options=ONCE) as stream:
        for number, token in enumerate(("The lamps are lit. And", " the doors are open."), 1):
            stream.push_text(token)
            async with asyncio.timeout(PATIENCE_S):
                while gauge(host, 'utterances_total{outcome="complete"}') < number:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        stream.end_input()
        frames = [event.frame async for event in stream]
        return heard(rtc.combine_audio_frames(frames))


async def nothing_written_is_nothing_said() -> Seen:
    async with makima_tts() as speaker, speaker.stream(conn_options=ONCE) as stream:
        stream.end_input()
        return {"events": [event async for event in stream]}


class Ears(io.AudioOutput):  # type: ignore[misc]  # not installed where types are checked
    """Records the frames of a session; playing takes no time."""

    def __init__(self) -> None:
        super().__init__(label="ears", capabilities=io.AudioOutputCapabilities(pause=False))
        self.turns_s: list[float] = []
        self._turn_s = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self._turn_s += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._turn_s:
            self.turns_s.append(round(self._turn_s, 3))
            self.on_playback_finished(playback_position=self._turn_s, interrupted=False)
        self._turn_s = 0.0

    def clear_buffer(self) -> None:
        """Nothing waits here."""


async def turns_then_another(speaker: tts.TTS[Any], texts: Sequence[str]) -> Seen:
    """The turns of an agent, one after the other; then one that can be spoken."""
    ears, errors, closes = Ears(), list[str](), list[str]()
    async with AgentSession(tts=speaker) as session:
        session.on("error", lambda event: errors.append(str(event.error)))
        session.on("close", lambda event: closes.append(event.reason.value))
        session.output.audio = ears
        await session.start(Agent(instructions=""), record=False)
        for text in (*texts, "Go on."):
            async with asyncio.timeout(PATIENCE_S):
                await session.say(text)
        still_open = not closes
    return {"turns_s": ears.turns_s, "errors": errors, "open": still_open}


async def failure_of(saying: Awaitable[Any]) -> Seen:
    try:
        await saying
    except APIError as failure:
        facts = {"kind": type(failure).__name__, "retryable": failure.retryable}
        return facts | {"status": getattr(failure, "status_code", None), "message": failure.message}
    return {}


async def main() -> None:
    async with http_context.open():
        seen = {
            **{f"openai {form}": await in_every_format(model) for form, model in MODELS.items()},
            **{
                f"openai {form} closed": await who_closes_a_stream_is_obeyed(openai_tts(model))
                for form, model in MODELS.items()
            },
            "openai unknown voice": await failure_of(spoken(openai_tts("tts-1", voice="nobody"))),
            "makima speaks": await spoken(makima_tts()),
            "makima speaks at 8000 Hz": await spoken(makima_tts(sample_rate=8000)),
            "makima closed": await who_closes_a_stream_is_obeyed(makima_tts()),
            "makima interrupted": await a_turn_that_is_interrupted_leaves_the_connection(),
            "makima written": await a_turn_is_heard_while_it_is_written(),
            "makima pausing": await what_is_written_after_a_pause_is_heard(sys.argv[2]),
            "makima prewarmed": await a_connection_is_made_before_the_first_turn(),
            "makima nothing": await nothing_written_is_nothing_said(),
            "openai audio wordless": await turns_then_another(openai_tts("tts-1"), WORDLESS),
            "openai sse wordless": await turns_then_another(openai_tts("gpt-4o-mini-tts"), WORDLESS),
            "makima wordless": await turns_then_another(makima_tts(), WORDLESS),
            "makima unknown voice": await failure_of(spoken(makima_tts(voice="nobody"))),
            "makima failing": await failure_of(spoken(makima_tts(), "One {fail}")),
            "makima wrong rate": await failure_of(spoken(makima_tts(sample_rate=12345))),
            "makima nobody there": await failure_of(spoken(makima_tts(host="127.0.0.1:9"))),
        }
    print(json.dumps(seen))


asyncio.run(main())
