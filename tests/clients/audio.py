"""Decodes audio of the service's formats to float32 PCM, and gives the expected durations."""

import io

import av
import numpy as np
import numpy.typing as npt

MEDIA = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg; codecs=opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
TEXT = "The lamps are lit."
# The scripted engine's 60 ms for each character, in whole frames of 80 ms.
TEXT_MS = 1120
# As streams, MP3 and AAC cannot declare the padding of a block: 1152 and 1024 samples, and one more block of
# decoder delay.
BLOCKS_MS = {"mp3": 96, "aac": 86}

Pcm = npt.NDArray[np.float32]
# Formats without a header: FFmpeg's name and the sample rate.
_RAW = {"pcm": ("s16le", 24_000), "mulaw": ("mulaw", 8_000), "alaw": ("alaw", 8_000)}


def decoded(data: bytes, name: str) -> tuple[Pcm, int]:
    """float32 [samples], mono, in -1…1."""
    container, rate_hz = _RAW.get(name, (None, None))
    options = {} if rate_hz is None else {"sample_rate": str(rate_hz)}
    with av.open(io.BytesIO(data), "r", format=container, options=options) as opened:
        stream = opened.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=stream.rate)
        frames = [out for frame in opened.decode(stream) for out in resampler.resample(frame)]
        pcm = [frame.to_ndarray().reshape(-1) for frame in (*frames, *resampler.resample(None))]
        return np.concatenate(pcm).astype(np.float32), int(stream.rate)


def duration_ms(data: bytes, name: str) -> float:
    pcm, rate_hz = decoded(data, name)
    return 1000 * pcm.size / rate_hz
