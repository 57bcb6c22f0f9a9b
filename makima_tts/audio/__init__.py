"""Sound as arrays and as bytes.

In: float32 samples, clips. Out: PCM in the rate and encoding that a listener asked for. Does not know:
engines, utterances, the wire.
"""

from makima_tts.audio.clip_report import ClipReport, transcript_warnings
from makima_tts.audio.clips import Clip, check_header, read_clip, read_clip_as_it_is, write_clip
from makima_tts.audio.encoders import (
    MAX_SPEED,
    MEDIA_TYPES,
    MIN_SPEED,
    OutputFormat,
    SpeechEncoder,
    open_encoder,
    rate_of,
)
from makima_tts.audio.pcm import Pcm, PcmEncoder, PcmEncoding, as_float
from makima_tts.audio.resample import StreamingResampler

__all__ = [
    "MAX_SPEED",
    "MEDIA_TYPES",
    "MIN_SPEED",
    "Clip",
    "ClipReport",
    "OutputFormat",
    "Pcm",
    "PcmEncoder",
    "PcmEncoding",
    "SpeechEncoder",
    "StreamingResampler",
    "as_float",
    "check_header",
    "open_encoder",
    "rate_of",
    "read_clip",
    "read_clip_as_it_is",
    "transcript_warnings",
    "write_clip",
]
