"""Decodes streams by FFmpeg, G.711 by FFmpeg's own decoders for it.

In: encoded bytes, samples. Out: samples, streams. Does not know: what is tested.
"""

import io
from collections.abc import Sequence

import av
import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext

from makima_tts.audio import OutputFormat, open_encoder

ENGINE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920

Samples = npt.NDArray[np.float32]


def frames_of(pcm: Samples) -> list[Samples]:
    """Chunks as an engine delivers them: 80 ms each, the last one shorter."""
    return [pcm[start : start + FRAME_SAMPLES] for start in range(0, pcm.size, FRAME_SAMPLES)]


def encoded(parts: Sequence[Samples], wanted: OutputFormat, rate_hz: int, speed: float = 1.0) -> bytes:
    encoder = open_encoder(wanted, ENGINE_RATE_HZ, rate_hz, speed=speed)
    return b"".join([*(encoder.encode(part) for part in parts), encoder.flush()])


def decoded(content: bytes, wanted: OutputFormat, rate_hz: int) -> tuple[Samples, int]:
    """float32 [samples], and their rate (Opus is always decoded at 48 kHz)."""
    if wanted == "pcm":
        return _joined([np.frombuffer(content, "<i2")]), rate_hz
    if wanted in ("mulaw", "alaw"):
        return _telephone("pcm_mulaw" if wanted == "mulaw" else "pcm_alaw", content), rate_hz
    with av.open(io.BytesIO(content), "r") as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
        return _joined(parts), container.streams.audio[0].codec_context.sample_rate


def _telephone(codec: str, content: bytes) -> Samples:
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, AudioCodecContext)
    decoder.sample_rate, decoder.layout = 8000, "mono"
    return _joined([frame.to_ndarray() for frame in decoder.decode(av.Packet(content))])


def _joined(parts: Sequence[npt.NDArray[np.generic]]) -> Samples:
    whole = np.concatenate([part.reshape(-1) for part in parts])
    full_scale = {"int16": 32767, "int32": 2**31}.get(whole.dtype.name, 1)
    return whole.astype(np.float32) / np.float32(full_scale)
