"""Playing, and knowing how much was played.

In: PCM, as fast as it comes; a sound card that asks for it. Out: sound, and the milliseconds of it that
have left the loudspeaker. Does not know: utterances, sockets.

The card asks from a thread of its own. What lies here is short, so that silence comes at once.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Protocol, Self

from makima_tts.client.failures import PlayerUnavailable
from makima_tts.protocol import AudioFormat, Encoding

MAX_WAITING_S = 0.5
# PortAudio's names; telephones' encodings are for those who pass them on.
_SAMPLES: dict[Encoding, str] = {"pcm16": "int16", "pcm32f": "float32"}
# How far ahead the card takes its sound: longer than a busy interpreter pauses, short enough to fall silent.
CARD_LATENCY_S = 0.08
# Less than this is not worth waiting for.
_INAUDIBLE_S = 0.001

# Fills the buffer, of which the first sample is heard so many seconds from now.
Fill = Callable[[memoryview, float], None]


class SoundCard(Protocol):
    """An open device that asks for sound whenever it needs some, until it is closed."""

    @property
    def time_s(self) -> float:
        """Its clock."""
        ...

    def close(self) -> None: ...


OpenSoundCard = Callable[[AudioFormat, Fill], SoundCard]


class Player:
    """Plays one utterance after another through a device, which is open while the context is."""

    def __init__(self, audio_format: AudioFormat, open_card: OpenSoundCard | None = None) -> None:
        self._format = audio_format
        self._bytes_per_s = audio_format.sample_rate_hz * audio_format.bytes_per_sample
        self._open_card = open_card or open_sound_card
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._taken_bytes = 0
        # When the first byte of what the card took last is heard, and which one of the utterance it is.
        self._heard_from_s, self._heard_from_byte = 0.0, 0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._card = self._open_card(self._format, self._fill)
        return self

    def __exit__(self, *_: object) -> None:
        self._card.close()

    @property
    def played_ms(self) -> int:
        """How much of the utterance has been heard."""
        with self._lock:
            return round(1000 * self._played_bytes() / self._bytes_per_s)

    def _played_bytes(self) -> float:
        since_s = self._card.time_s - self._heard_from_s
        return min(max(self._heard_from_byte + since_s * self._bytes_per_s, 0), self._taken_bytes)

    def begin(self) -> None:
        """Another utterance: nothing of it was played."""
        with self._lock:
            self._waiting.clear()
            self._taken_bytes = self._heard_from_byte = 0
            self._heard_from_s = self._card.time_s

    async def write(self, pcm: bytes) -> None:
        """Takes sound as fast as it is played."""
        with self._lock:
            self._waiting += pcm
        while len(self._waiting) > MAX_WAITING_S * self._bytes_per_s:
            self._room.clear()
            await self._room.wait()

    async def drain(self) -> None:
        """Until all of it was heard. A card does not tell; it shows how far it is."""
        while (left_s := self._left_s()) > _INAUDIBLE_S:  # noqa: ASYNC110
            await asyncio.sleep(left_s)
        with self._lock:
            self._heard_from_s, self._heard_from_byte = self._card.time_s, self._taken_bytes

    def _left_s(self) -> float:
        with self._lock:
            return (len(self._waiting) + self._taken_bytes - self._played_bytes()) / self._bytes_per_s

    def silence(self) -> None:
        """Nothing more of this utterance is played but what the device holds already."""
        with self._lock:
            self._waiting.clear()
        self._room.set()

    def _fill(self, buffer: memoryview, heard_in_s: float) -> None:
        """Called by the card, in its thread."""
        with self._lock:
            size = min(len(buffer), len(self._waiting))
            buffer[:size] = self._waiting[:size]
            buffer[size:] = bytes(len(buffer) - size)
            del self._waiting[:size]
            if size:
                self._heard_from_s = self._card.time_s + heard_in_s
                self._heard_from_byte = self._taken_bytes
                self._taken_bytes += size
        self._loop.call_soon_threadsafe(self._room.set)


def open_sound_card(audio_format: AudioFormat, fill: Fill) -> SoundCard:
    """The machine's own. Raises PlayerUnavailable."""
    return _PortAudio(audio_format, fill)


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
    """A card as PortAudio shows it, through the package sounddevice."""

    def __init__(self, audio_format: AudioFormat, fill: Fill) -> None:
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
                callback=self._ask,
            )
            self._stream.start()
        except sounddevice.PortAudioError as failure:
            raise PlayerUnavailable(f"There is no sound card that plays this: {failure}.") from None

    @property
    def time_s(self) -> float:
        return float(self._stream.time)

    def _ask(self, buffer: Any, _frames: int, _time: Any, _status: Any) -> None:
        self._fill(memoryview(buffer).cast("B"), self._stream.latency)

    def close(self) -> None:
        self._stream.abort()
        self._stream.close()
