"""Sound as arrays and as bytes.

In: float32 samples, clips. Out: PCM in the rate and encoding that a listener asked for. Does not know:
engines, utterances, the wire.
"""

from makima_tts.audio.pcm import PcmEncoder, PcmEncoding
from makima_tts.audio.resample import StreamingResampler

__all__ = ["PcmEncoder", "PcmEncoding", "StreamingResampler"]
