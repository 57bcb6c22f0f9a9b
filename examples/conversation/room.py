"""Microphone and loudspeaker, or two WAV files instead.

In: sound. Out: sound. Does not know: speech.
"""

import asyncio
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from examples.conversation.ears import BLOCK_S, BLOCK_SAMPLES, RATE_HZ
from makima_tts.client.playing import Fill
from makima_tts.client.saving import wav_file
from makima_tts.protocol import AudioFormat


async def microphone() -> AsyncIterator[bytes]:
    """The machine's microphone, through the package sounddevice."""
    import sounddevice  # noqa: PLC0415 - files need none

    loop = asyncio.get_running_loop()
    blocks: asyncio.Queue[bytes] = asyncio.Queue()

    def take(block: Any, *_: object) -> None:
        loop.call_soon_threadsafe(blocks.put_nowait, bytes(block))

    with sounddevice.RawInputStream(RATE_HZ, BLOCK_SAMPLES, channels=1, dtype="int16", callback=take):
        while True:
            yield await blocks.get()


class RoomOfFiles:
    """One WAV as the microphone, another as the loudspeaker, on one clock, in real time."""

    def __init__(self, microphone: Path, loudspeaker: Path) -> None:
        try:
            with wave.open(str(microphone)) as file:
                shape, self._recorded = file.getparams()[:3], file.readframes(file.getnframes())
        except (OSError, EOFError, wave.Error):
            shape = None
        if shape != (1, 2, RATE_HZ):
            raise SystemExit("--from-wav takes a WAV of 16 bits, mono, at 16 kHz.")
        self._loudspeaker = loudspeaker
        self._played = bytearray()
        self._blocks = 0

    # the loudspeaker: makima_tts.client.playing.SoundCard

    def open(self, audio_format: AudioFormat, fill: Fill) -> "RoomOfFiles":
        self._format, self._fill = audio_format, fill
        return self

    @property
    def time_s(self) -> float:
        return self._blocks * BLOCK_S

    def close(self) -> None:
        with wav_file(self._loudspeaker, self._format) as write:
            write(bytes(self._played))

    async def microphone(self) -> AsyncIterator[bytes]:
        """To the end of the file; requests as much sound for the loudspeaker."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        size_bytes = round(BLOCK_S * self._format.sample_rate_hz) * self._format.bytes_per_sample
        for start in range(0, len(self._recorded) - 2 * BLOCK_SAMPLES, 2 * BLOCK_SAMPLES):
            await asyncio.sleep(began_s + self.time_s - loop.time())
            sound = bytearray(size_bytes)
            self._fill(memoryview(sound), 0.0)
            self._played += sound
            self._blocks += 1
            yield self._recorded[start : start + 2 * BLOCK_SAMPLES]
