"""Sound as arrays and as bytes.

In: samples from engines, clips. Out: bytes at the requested rate, speed and format; checked clips. Does not
know: engines, utterances, the wire.
"""

from makima_tts.audio.clips import Clip, ClipReport, check_header, read_clip, read_clip_as_it_is, write_clip
from makima_tts.audio.encoders import (
    MEDIA_TYPES,
    OutputFormat,
    SpeechEncoder,
    open_encoder,
    rate_of,
)
from makima_tts.audio.pcm import Pcm, PcmEncoder, PcmEncoding, as_float

__all__ = [
    "MEDIA_TYPES",
    "Clip",
    "ClipReport",
    "OutputFormat",
    "Pcm",
    "PcmEncoder",
    "PcmEncoding",
    "SpeechEncoder",
    "as_float",
    "check_header",
    "open_encoder",
    "rate_of",
    "read_clip",
    "read_clip_as_it_is",
    "write_clip",
]
