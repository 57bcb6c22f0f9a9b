"""Playback through a sound card, and how much of an utterance was played.

In: PCM, as fast as it comes; a sound card that requests it. Out: sound, and the milliseconds of it that have
been played. Does not know: utterances, sockets.

The card calls from its own thread. Little is buffered here, so that a cancel silences it at once.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Protocol, Self

from makima_tts.client.failures import PlayerUnavailable
from makima_tts.protocol import AudioFormat, Encoding

MAX_BUFFERED_S = 0.5
# PortAudio's names; it does not play G.711.
_SAMPLES: dict[Encoding, str] = {"pcm16": "int16", "pcm32f": "float32"}
# What the card buffers ahead: longer than pauses of a busy interpreter, short enough to fall silent quickly.
CARD_LATENCY_S = 0.08
_INAUDIBLE_S = 0.001

# Fills the buffer, whose first sample is played this many seconds from now.
Fill = Callable[[memoryview, float], None]


class SoundCard(Protocol):
    """An open device that calls ``Fill`` whenever it needs samples, until it is closed."""

    @property
    def time_s(self) -> float: ...

    def close(self) -> None: ...


OpenSoundCard = Callable[[AudioFormat, Fill], SoundCard]


class Player:
    """Plays one utterance after another through a device, which is open within the context."""

    def __init__(self, audio_format: AudioFormat, open_card: OpenSoundCard | None = None) -> None:
        self._format = audio_format
        self._bytes_per_s = audio_format.sample_rate_hz * audio_format.bytes_per_sample
        self._open_card = open_card or _PortAudio
        self._lock = threading.Lock()
        self._buffered = bytearray()
        self._taken_bytes = 0
        # When the first byte that the card took last is played, and its index within the utterance.
        self._played_from_s, self._played_from_byte = 0.0, 0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._card = self._open_card(self._format, self._fill)
        return self

    def __exit__(self, *_: object) -> None:
        self._card.close()

    @property
    def played_ms(self) -> int:
        with self._lock:
            return round(1000 * self._played_bytes() / self._bytes_per_s)

    def _played_bytes(self) -> float:
        since_s = self._card.time_s - self._played_from_s
        return min(max(self._played_from_byte + since_s * self._bytes_per_s, 0), self._taken_bytes)

    def begin(self) -> None:
        """Start another utterance."""
        with self._lock:
            self._buffered.clear()
            self._taken_bytes = self._played_from_byte = 0
            self._played_from_s = self._card.time_s

    async def write(self, pcm: bytes) -> None:
        """Accepts PCM at the speed of playback."""
        with self._lock:
            self._buffered += pcm
        while len(self._buffered) > MAX_BUFFERED_S * self._bytes_per_s:
            self._room.clear()
            await self._room.wait()

    async def drain(self) -> None:
        """Wait until all of it was played. Polls, since a card does not notify."""
        while (left_s := self._left_s()) > _INAUDIBLE_S:  # noqa: ASYNC110
            await asyncio.sleep(left_s)
        with self._lock:
            self._played_from_s, self._played_from_byte = self._card.time_s, self._taken_bytes

    def _left_s(self) -> float:
        with self._lock:
            return (len(self._buffered) + self._taken_bytes - self._played_bytes()) / self._bytes_per_s

    def silence(self) -> None:
        """Play no more of this utterance than the device has buffered already."""
        with self._lock:
            self._buffered.clear()
        self._room.set()

    def _fill(self, buffer: memoryview, played_in_s: float) -> None:
        """The card calls this in its thread."""
        with self._lock:
            size = min(len(buffer), len(self._buffered))
            buffer[:size] = self._buffered[:size]
            buffer[size:] = bytes(len(buffer) - size)
            del self._buffered[:size]
            if size:
                self._played_from_s = self._card.time_s + played_in_s
                self._played_from_byte = self._taken_bytes
                self._taken_bytes += size
        self._loop.call_soon_threadsafe(self._room.set)


def _sounddevice() -> Any:
    try:
        import sounddevice  # noqa: PLC0415
    except ImportError:
        raise PlayerUnavailable(
            "Playing needs the package sounddevice: pip install 'makima-tts[play]'."
        ) from None
    except OSError:
        raise PlayerUnavailable(
            "Playing needs the library PortAudio; on Debian: apt install libportaudio2."
        ) from None
    return sounddevice


class _PortAudio:
    """The machine's own card, through the package sounddevice."""

    def __init__(self, audio_format: AudioFormat, fill: Fill) -> None:
        """Raises PlayerUnavailable."""
        if audio_format.encoding not in _SAMPLES:
            raise PlayerUnavailable(f"A sound card plays {' or '.join(_SAMPLES)}; ask for one of them.")
        sounddevice = _sounddevice()
        self._fill = fill
        try:
            self._stream = sounddevice.RawOutputStream(
                samplerate=audio_format.sample_rate_hz,
                channels=1,
                dtype=_SAMPLES[audio_format.encoding],
                latency=CARD_LATENCY_S,
                callback=self._on_request,
            )
            self._stream.start()
        except sounddevice.PortAudioError as failure:
            raise PlayerUnavailable(f"There is no sound card that plays this: {failure}.") from None

    @property
    def time_s(self) -> float:
        return float(self._stream.time)

    def _on_request(self, buffer: Any, _frames: int, _time: Any, _status: Any) -> None:
        self._fill(memoryview(buffer).cast("B"), self._stream.latency)

    def close(self) -> None:
        self._stream.abort()
        self._stream.close()
