"""The conversation of one connection, as a pure state machine driven by tables.

In: client messages, reports of the engine, ticks, interrupts. Out: effects for the connection to perform.
Does not know: sockets, clocks, event loops, arrays, engines.
"""

from makima_tts.session.effects import (
    CancelSpeech,
    Close,
    Effect,
    FeedPiece,
    FinishText,
    JoinContract,
    LoadVoice,
    Send,
    SendAudio,
    StartSpeech,
    UtteranceEnded,
    WakeAt,
)
from makima_tts.session.inputs import (
    AudioReady,
    Disconnected,
    Drain,
    EngineFailed,
    EngineLoading,
    EngineReady,
    Interrupt,
    Malformed,
    SessionInput,
    SpeechEnded,
    SpeechFailed,
    Tick,
    VoiceLoaded,
)
from makima_tts.session.machine import Session, SessionState

__all__ = [
    "AudioReady",
    "CancelSpeech",
    "Close",
    "Disconnected",
    "Drain",
    "Effect",
    "EngineFailed",
    "EngineLoading",
    "EngineReady",
    "FeedPiece",
    "FinishText",
    "Interrupt",
    "JoinContract",
    "LoadVoice",
    "Malformed",
    "Send",
    "SendAudio",
    "Session",
    "SessionInput",
    "SessionState",
    "SpeechEnded",
    "SpeechFailed",
    "StartSpeech",
    "Tick",
    "UtteranceEnded",
    "VoiceLoaded",
    "WakeAt",
]
