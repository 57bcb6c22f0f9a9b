"""Every bound that a session keeps, as plain values.

In: settings (through the factory). Out: what sessions, routes and the ``ready`` message read. Does not
know: where the values come from.
"""

from dataclasses import dataclass

from makima_tts.protocol.formats import TextCleaning


@dataclass(frozen=True, slots=True)
class Limits:
    """Text counts are Unicode code points after cleaning."""

    max_text_chars: int = 1000
    max_utterance_chars: int = 20_000
    max_queued_utterances: int = 32
    idle_timeout_ms: int = 120_000
    max_session_ms: int = 3_600_000
    max_text_stall_ms: int = 30_000
    utterance_timeout_ms: int = 30_000
    load_timeout_ms: int = 600_000
    # The spec closes the session at the 20th message that makes no sense.
    max_invalid_messages: int = 20
    # Late text of an utterance that is over must be told from text for a new one.
    remembered_utterances: int = 1000
    # Sound sent ahead of the listener's clock is device time burnt if the listener is gone.
    max_ahead_ms: int = 20_000
    max_connections: int = 1000
    # What of a text is not spoken, unless ``start`` says otherwise.
    text_cleaning: TextCleaning = "markdown"
