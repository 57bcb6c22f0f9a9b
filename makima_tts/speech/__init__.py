"""What an engine is, and the bridge between its thread and the event loop.

In: pieces of text. Out: chunks of audio. Does not know: which engine, who listens, any wire.
"""

from makima_tts.speech.engine import (
    CloneMode as CloneMode,
    EngineFacts as EngineFacts,
    EngineHealth as EngineHealth,
    EngineShare as EngineShare,
    LoadProgress as LoadProgress,
    ProgressReport as ProgressReport,
    SpeechEngine as SpeechEngine,
    UtteranceRequest as UtteranceRequest,
    VoicePrompt as VoicePrompt,
    VoiceReference as VoiceReference,
    check_request as check_request,
)
from makima_tts.speech.listener import ListenerClock as ListenerClock
from makima_tts.speech.stream import (
    AudioChunk as AudioChunk,
    FinishReason as FinishReason,
    SpeechSink as SpeechSink,
    SpeechStream as SpeechStream,
    TextPart as TextPart,
)
