"""Sound as arrays and as bytes.

In: samples from engines, clips. Out: bytes at the requested rate, speed and format; checked clips. Does not
know: engines, utterances, the wire.
"""

from makima_tts.audio.clips import (
    Clip as Clip,
    ClipReport as ClipReport,
    check_header as check_header,
    read_clip as read_clip,
    read_clip_as_it_is as read_clip_as_it_is,
    write_clip as write_clip,
)
from makima_tts.audio.pcm import (
    MEDIA_TYPES as MEDIA_TYPES,
    OutputFormat as OutputFormat,
    Pcm as Pcm,
    PcmEncoder as PcmEncoder,
    PcmEncoding as PcmEncoding,
    SpeechEncoder as SpeechEncoder,
    as_float as as_float,
    open_encoder as open_encoder,
    rate_of as rate_of,
)
