"""What went wrong on the engine thread, in words for clients.

In: exceptions. Out: TtsErrors; the log gets the type and the place. Does not know: utterances, sinks,
what can be let go.
"""

import structlog

from makima_tts.errors import GpuOutOfMemory, SynthesisError, TtsError

_log = structlog.get_logger(__name__)


def as_failure(error: Exception, words: str, *, memory: bool) -> TtsError:
    """``words`` for what has none of its own; ``memory``: it was that which did not suffice."""
    if isinstance(error, TtsError):
        return error
    _log.error("synthesis_failed", engine="qwen3", exc_info=error)
    if memory:
        return GpuOutOfMemory("The GPU has no memory left for this; try again in a moment.")
    return SynthesisError(words)
