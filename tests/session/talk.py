"""A session under test, with shorthands for its client and its engine."""

import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

from makima_tts.errors import TtsError
from makima_tts.protocol import Limits, Speak, Start
from makima_tts.session.effects import Close, Effect, Send, SendAudio, StartSpeech
from makima_tts.session.inputs import (
    AudioReady,
    EngineReady,
    SessionInput,
    SpeechEnded,
    SpeechFailed,
    VoiceLoaded,
)
from makima_tts.session.machine import Session
from makima_tts.text.words import WordTime

READY = EngineReady(
    engine="scripted",
    model="test tone",
    languages=("English", "Japanese"),
    cloning=True,
    text_streaming=True,
    voice="makima",
    voice_loaded=True,
)


@dataclass
class Talk:
    """Sends inputs at ``now_ms`` and keeps every effect."""

    limits: Limits = field(default_factory=Limits)
    events: bool = False
    now_ms: int = 0
    effects: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        ids = (f"u{number}" for number in itertools.count(1))
        self.session = Session("session", self.limits, ids, now_ms=self.now_ms, events=self.events)

    def send(self, *events: SessionInput) -> list[Effect]:
        """The effects of these inputs together."""
        effects = [effect for event in events for effect in self.session.receive(event, self.now_ms)]
        self.effects += effects
        return effects

    def later(self, ms: int) -> "Talk":
        self.now_ms += ms
        return self

    def page(self) -> "Talk":
        self.send(READY)
        return self

    def started(self, **fields: Any) -> "Talk":
        self.send(READY, Start(**fields), VoiceLoaded("makima", None))
        return self

    def audio(
        self,
        utterance_id: str = "u1",
        *,
        samples: int = 1920,
        piece: int = 0,
        ends_piece: bool = True,
        words: tuple[WordTime, ...] = (),
    ) -> list[Effect]:
        data = b"\1\0" * samples
        ready = AudioReady(utterance_id, data, samples, samples / 24, piece, ends_piece, 0.01, words)
        return self.send(ready)

    def ended(self, utterance_id: str = "u1", reason: Literal["stop", "length"] = "stop") -> list[Effect]:
        return self.send(SpeechEnded(utterance_id, reason))

    def failed(self, error: TtsError, utterance_id: str = "u1") -> list[Effect]:
        return self.send(SpeechFailed(utterance_id, error))

    def speak(self, text: str = "Hello there.", **fields: Any) -> list[Effect]:
        return self.send(Speak(text=text, **fields))


def messages(effects: list[Effect]) -> list[Any]:
    """The messages; of any type, so that a test may read the fields it expects."""
    return [effect.message for effect in effects if isinstance(effect, Send)]


def types(effects: list[Effect]) -> list[str]:
    """What a client receives: message types, ``audio`` for binary frames, ``close N``."""
    seen: list[str] = []
    for effect in effects:
        if isinstance(effect, Send):
            seen.append(effect.message.type)
        elif isinstance(effect, SendAudio):
            seen.append("audio")
        elif isinstance(effect, Close):
            seen.append(f"close {effect.code}")
    return seen


def errors(effects: list[Effect]) -> list[str]:
    return [message.code for message in messages(effects) if message.type == "error"]


def begun(effects: list[Effect]) -> list[str]:
    """The utterances that these effects ask the engine to begin."""
    return [effect.utterance_id for effect in effects if isinstance(effect, StartSpeech)]
