"""What an engine is, and the bridge between its thread and the event loop.

In: pieces of text. Out: chunks of audio. Does not know: which engine, who listens, any wire.
"""

from makima_tts.speech.engine import (
    CloneMode,
    EngineFacts,
    EngineHealth,
    EngineShare,
    LoadProgress,
    ProgressReport,
    SpeechEngine,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
    check_request,
)
from makima_tts.speech.listener import ListenerClock
from makima_tts.speech.stream import AudioChunk, FinishReason, SpeechSink, SpeechStream, TextPart

__all__ = [
    "AudioChunk",
    "CloneMode",
    "EngineFacts",
    "EngineHealth",
    "EngineShare",
    "FinishReason",
    "ListenerClock",
    "LoadProgress",
    "ProgressReport",
    "SpeechEngine",
    "SpeechSink",
    "SpeechStream",
    "TextPart",
    "UtteranceRequest",
    "VoicePrompt",
    "VoiceReference",
    "check_request",
]
