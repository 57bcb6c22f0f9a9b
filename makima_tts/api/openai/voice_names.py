"""The names that OpenAI gave its voices, which clients ask for without having asked what there is.

In: a voice as a client names it. Out: a voice of the library. Does not know: routes, prompts, settings.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from makima_tts.errors import VoiceNotFound
from makima_tts.voices import VoiceManager


class OpenAIVoices:
    """``spoken_by``: OpenAI's names, each with the voice that the operator chose for it, or None.

    A voice of the library that has such a name is itself.
    """

    def __init__(self, voices: VoiceManager, spoken_by: Mapping[str, str | None]) -> None:
        self._voices = voices
        self._spoken_by = spoken_by

    async def library_name(self, asked: str | None) -> str | None:
        """None is the default voice. Raises VoiceNotFound for what the operator chose and is not there."""
        if asked is None or asked not in self._spoken_by or await self._has(asked):
            return asked
        chosen = self._spoken_by[asked]
        if chosen is not None and not await self._has(chosen):
            raise VoiceNotFound(
                f"TTS_OPENAI_VOICES has {asked} spoken by {chosen}, and there is no voice {chosen}. "
                "The operator must add it, or choose one that GET /v1/audio/voices lists."
            )
        return chosen

    async def _has(self, voice_id: str) -> bool:
        with suppress(VoiceNotFound):
            await asyncio.to_thread(self._voices.describe, voice_id)
            return True
        return False
