"""The scripted engine, directed by a test: when it is loaded, when a voice is encoded, how much it admits."""

import asyncio
from dataclasses import replace

from makima_tts.engines import ScriptedEngine
from makima_tts.engines.pieces import PieceEngine
from makima_tts.errors import RateLimited, TtsUnavailable
from makima_tts.speech import (
    ProgressReport,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
    check_reference,
)


class DirectedEngine(ScriptedEngine):
    """``encodes`` counts the voices it has encoded.

    ``capacity``: utterances at once. Loading reports ``load_steps`` times and then waits for ``load_gate``;
    encoding waits for ``encode_gate``. ``fail_to_load``: ``start`` raises TtsUnavailable.
    """

    def __init__(
        self,
        *,
        cloning: bool = True,
        capacity: int | None = None,
        load_steps: int = 4,
        load_gate: asyncio.Event | None = None,
        encode_gate: asyncio.Event | None = None,
        fail_to_load: bool = False,
    ) -> None:
        super().__init__()
        self.facts = replace(self.facts, cloning=cloning)
        self.encodes = 0
        self._capacity = capacity
        self._load_steps = load_steps
        self._load_gate = load_gate
        self._encode_gate = encode_gate
        self._fail_to_load = fail_to_load

    async def start(self, report: ProgressReport) -> None:
        for step in range(self._load_steps):
            report("tuning", step / self._load_steps)
        if self._load_gate is not None:
            await self._load_gate.wait()
        if self._fail_to_load:
            raise TtsUnavailable("The test says that the engine cannot be loaded.")
        self._admit()
        report("tuned", 1.0)

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        if not self.facts.cloning:
            return await PieceEngine.encode_voice(self, reference)
        check_reference(reference)
        self.encodes += 1
        if self._encode_gate is not None:
            await self._encode_gate.wait()
        return await super().encode_voice(reference)

    def open(self, request: UtteranceRequest) -> SpeechStream:
        if self._capacity is not None and self.health().active >= self._capacity:
            raise RateLimited("All streams are in use; try again shortly.", retry_after_s=1.0)
        return super().open(request)
