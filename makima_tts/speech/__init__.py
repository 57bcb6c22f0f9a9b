"""What an engine is, and the way its sound crosses from the engine to the event loop.

In: pieces of text. Out: chunks of audio. Does not know: which engine, who listens, any wire.
"""

from makima_tts.speech.engine import (
    EngineFacts,
    EngineHealth,
    LoadProgress,
    ProgressReport,
    SpeechEngine,
    UtteranceRequest,
    check_request,
)
from makima_tts.speech.listener import ListenerClock
from makima_tts.speech.stream import AudioChunk, FinishReason, Part, SpeechSink, SpeechStream
from makima_tts.speech.voice import CloneMode, EngineShare, VoicePrompt, VoiceReference

__all__ = [
    "AudioChunk",
    "CloneMode",
    "EngineFacts",
    "EngineHealth",
    "EngineShare",
    "FinishReason",
    "ListenerClock",
    "LoadProgress",
    "Part",
    "ProgressReport",
    "SpeechEngine",
    "SpeechSink",
    "SpeechStream",
    "UtteranceRequest",
    "VoicePrompt",
    "VoiceReference",
    "check_request",
]
