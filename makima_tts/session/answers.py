"""Messages that the session makes from what it knows.

In: errors, limits, facts of the engine. Out: server messages. Does not know: states.
"""

from makima_tts.errors import TtsError
from makima_tts.protocol import (
    PROTOCOL_VERSION,
    SAMPLE_RATES_HZ,
    AudioFormat,
    Capabilities,
    ErrorMessage,
    Limits,
    Ready,
    ReadyLimits,
)
from makima_tts.protocol.formats import ENCODINGS
from makima_tts.session.inputs import EngineReady


def error_message(error: TtsError, utterance_id: str | None = None) -> ErrorMessage:
    """With an id it is that utterance's terminal message, or says that it was not accepted."""
    retry_ms = None if error.retry_after_s is None else round(error.retry_after_s * 1000)
    return ErrorMessage(
        code=error.code,
        message=error.message,
        recoverable=error.recoverable,
        utterance_id=utterance_id,
        retry_after_ms=retry_ms,
    )


def ready_message(session_id: str, engine: EngineReady, limits: Limits, shape: AudioFormat) -> Ready:
    """The first message: who speaks, how, and within which limits."""
    return Ready(
        session_id=session_id,
        voice_loaded=engine.voice_loaded,
        capabilities=Capabilities(
            languages=engine.languages,
            encodings=ENCODINGS,
            sample_rates=SAMPLE_RATES_HZ,
            cloning=engine.cloning,
            text_streaming=engine.text_streaming,
        ),
        engine=engine.engine,
        model=engine.model,
        protocol_version=PROTOCOL_VERSION,
        limits=ReadyLimits(
            max_text_chars=limits.max_text_chars,
            max_queued_utterances=limits.max_queued_utterances,
            idle_timeout_ms=limits.idle_timeout_ms,
            max_session_ms=limits.max_session_ms,
            max_text_stall_ms=limits.max_text_stall_ms,
        ),
        sample_rate=shape.sample_rate_hz,
        encoding=shape.encoding,
        voice=engine.voice,
    )
