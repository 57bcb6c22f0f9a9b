"""Who speaks: from the name that a client asks for to the prompt that an engine speaks with.

In: voice ids, uploads. Out: :class:`ResolvedVoice`, listings, reports on clips. Does not know: sessions,
HTTP, how an engine encodes.

Whatever touches the disk runs in a worker thread, so that nobody's audio waits for an upload. A prompt is a
value: who speaks with the prompt of a voice that is deleted finishes.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from io import BufferedReader
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from makima_tts.audio import ClipReport, read_clip, transcript_warnings
from makima_tts.errors import InvalidClip, TtsError, TtsUnavailable, VoiceNotFound
from makima_tts.metrics import Metrics
from makima_tts.protocol import AUTO
from makima_tts.speech import SpeechEngine, VoicePrompt, VoiceReference
from makima_tts.voices.cache import CacheBounds, PromptCache
from makima_tts.voices.folders import Revision, VoiceFolder, manifest_of, open_clip, read_reference
from makima_tts.voices.library import VoiceLibrary
from makima_tts.voices.manifest import is_voice_id
from makima_tts.voices.prompts import PromptStore, prompt_key
from makima_tts.voices.uploads import VoiceUpload

NARRATOR = "narrator"
_LIST = "GET /api/v1/voices lists those there are."
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ResolvedVoice:
    """``prompt`` is None for the engine's own voice.

    ``warning`` says why it is not the voice that was asked for.
    """

    id: str
    prompt: VoicePrompt | None = field(repr=False)
    warning: str | None = None


class VoiceListing(BaseModel):
    """A voice as clients see it."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    id: str = Field(description="What to ask for", examples=["narrator"])
    name: str = Field(description="What to call it", examples=["Narrator"])
    language: str = Field(description="English name of what its clip speaks, or Auto", examples=["English"])
    description: str = Field(
        description="A line about it", examples=["A calm American woman who reads aloud."]
    )
    is_default: bool = Field(description="Whether it speaks when none is asked for", examples=[False])
    available: bool = Field(description="Whether it can speak now", examples=[True])
    reason: str | None = Field(None, description="Why it is not available, and what to do", examples=[None])


class VoiceManager:
    """Event loop only, but for ``list``, ``describe`` and ``expect``, which any thread may call."""

    def __init__(
        self,
        library: VoiceLibrary,
        engine: SpeechEngine,
        *,
        cache_dir: Path,
        max_count: int,
        max_bytes: int,
        ttl_s: float,
        default_voice: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._library = library
        self._engine = engine
        self._default = default_voice
        self._metrics = metrics
        self._store = PromptStore(cache_dir)
        self._cache = PromptCache(CacheBounds(max_count, max_bytes, ttl_s), metrics, clock)
        # What the engine or the reading of a clip refused, until the folder changes.
        self._refused: dict[str, tuple[Revision, str]] = {}
        # One clip in memory at a time, however many are sent at once.
        self._one_clip = asyncio.Lock()

    async def prepare_default(self) -> ResolvedVoice:
        """Sweep leftovers, and encode the voice of those who ask for none. Raises VoiceNotFound."""
        await asyncio.to_thread(self._library.sweep)
        await asyncio.to_thread(self._store.sweep)
        voice = await self.resolve(self._default)
        if voice.warning:
            _log.info("default_voice_not_available", voice=self._default, speaks=voice.id)
        return voice

    async def resolve(self, wanted: str | None) -> ResolvedVoice:
        """``wanted``, the default voice, the narrator: the first that is usable.

        Raises VoiceNotFound when none is, and what the engine failed with when that kept one from being so;
        TtsUnavailable as soon as it is the engine that is gone.
        """
        refusals: list[str] = []
        failures: list[TtsError] = []
        for voice_id in self._line(wanted):
            try:
                voice = await self.get(voice_id)
            except VoiceNotFound as refusal:
                refusals.append(refusal.message)
            except TtsUnavailable:
                raise
            except TtsError as failure:
                _log.warning("voice_not_encoded", voice=voice_id, code=failure.code)
                failures.append(failure)
                refusals.append(f"The voice {voice_id} could not be encoded now.")
            else:
                if wanted is None or not refusals:
                    return voice
                return replace(voice, warning=f"{refusals[0]} The voice {voice.id} speaks instead.")
        raise failures[0] if failures else VoiceNotFound(f"No voice is usable. {refusals[0]}")

    async def get(self, voice_id: str) -> ResolvedVoice:
        """Exactly this one, encoded. Raises VoiceNotFound with what to do."""
        if not self._engine.facts.cloning:
            return self._own_voice(voice_id)
        folder = await asyncio.to_thread(self._find, voice_id)
        if reason := self._reason(folder):
            raise VoiceNotFound(f"The voice {folder.id} is not available: {reason}")
        prompt = await self._cache.get((folder.id, folder.revision), partial(self._prepare, folder))
        return ResolvedVoice(folder.id, prompt)

    def list(self) -> list[VoiceListing]:
        """All voices, by id, as they are on disk now. Blocks for as long as that takes."""
        listings = {folder.id: self._listing(folder) for folder in self._library.voices()}
        if not self._engine.facts.cloning:
            listings[NARRATOR] = self._own_listing()
        return [listings[voice_id] for voice_id in sorted(listings)]

    def describe(self, voice_id: str) -> VoiceListing:
        """Blocks. Raises VoiceNotFound."""
        if voice_id == NARRATOR and not self._engine.facts.cloning:
            return self._own_listing()
        return self._listing(self._find(voice_id))

    def expect(self) -> VoiceListing:
        """Who will speak for those who ask for none, as far as can be said without encoding. Blocks.

        Raises VoiceNotFound when no voice is available.
        """
        listings = {listing.id: listing for listing in self.list() if listing.available}
        for voice_id in self._line(None):
            if voice_id in listings:
                return listings[voice_id]
        raise VoiceNotFound(f"Neither {self._default} nor {NARRATOR} is available.")

    async def reference(self, voice_id: str, *, as_it_is: bool = False) -> VoiceReference:
        """What a voice is encoded from; ``as_it_is``: with nothing about its clip mended.

        Raises VoiceNotFound, InvalidClip.
        """
        return await asyncio.to_thread(self._reference, voice_id, as_it_is)

    async def check(self, voice_id: str) -> ClipReport:
        """A report on the clip of a voice. Raises VoiceNotFound, InvalidClip."""
        return await asyncio.to_thread(self._check, voice_id)

    async def add(self, upload: VoiceUpload) -> tuple[VoiceListing, ClipReport]:
        """Keep a voice, and encode it while the engine runs; else it is encoded when first asked for.

        Its listing is how it is in the end: somebody may have deleted it by then. Raises InvalidMessage,
        InvalidClip, Conflict, and TtsUnavailable when the disk cannot be written.
        """
        async with self._one_clip:
            folder, report = await asyncio.to_thread(self._keep, upload)
        if self._engine.facts.cloning and self._engine.health().alive:
            try:
                await self.get(folder.id)
            except TtsError as error:
                _log.warning("uploaded_voice_not_encoded", voice=folder.id, code=error.code)
        return await asyncio.to_thread(self._listing_in_the_end, folder), report

    async def delete(self, voice_id: str) -> None:
        """Raises VoiceNotFound, Forbidden for what ships, TtsUnavailable when the disk cannot be written."""
        await asyncio.to_thread(self._delete, voice_id)
        self._refused.pop(voice_id, None)
        self._cache.discard(voice_id)

    async def close(self) -> None:
        """End what is being encoded."""
        await self._cache.close()

    def _line(self, wanted: str | None) -> dict[str, None]:
        first = {} if wanted is None else {wanted: None}
        return {**first, self._default: None, NARRATOR: None}

    def _find(self, voice_id: str) -> VoiceFolder:
        if (folder := self._library.find(voice_id)) is not None:
            return folder
        # What is malformed may be anything, so it is not repeated.
        name = f"{voice_id} " if is_voice_id(voice_id) else ""
        raise VoiceNotFound(f"There is no voice {name}here; {_LIST}")

    def _reason(self, folder: VoiceFolder) -> str | None:
        """Why it cannot speak, as far as is known without trying."""
        if not self._engine.facts.cloning:
            return self._no_cloning()
        revision, refusal = self._refused.get(folder.id, ((), None))
        return folder.reason or (refusal if revision == folder.revision else None)

    def _no_cloning(self) -> str:
        return f"The engine {self._engine.facts.name} has one voice, {NARRATOR}, and cannot clone others."

    def _own_voice(self, voice_id: str) -> ResolvedVoice:
        if voice_id != NARRATOR:
            name = f"The voice {voice_id} is" if is_voice_id(voice_id) else "This voice is"
            raise VoiceNotFound(f"{name} not available: {self._no_cloning()}")
        return ResolvedVoice(NARRATOR, None)

    def _own_language(self) -> str | None:
        languages = self._engine.facts.languages
        return languages[0] if len(languages) == 1 else None

    def _own_listing(self) -> VoiceListing:
        return VoiceListing(
            id=NARRATOR,
            name="Narrator",
            language=self._own_language() or AUTO,
            description=self._engine.facts.note,
            is_default=self._default == NARRATOR,
            available=True,
        )

    def _listing(self, folder: VoiceFolder) -> VoiceListing:
        manifest, reason = folder.manifest, self._reason(folder)
        return VoiceListing(
            id=folder.id,
            name=folder.name,
            language=(manifest.language if manifest else None) or AUTO,
            description=manifest.description if manifest else "",
            is_default=folder.id == self._default,
            available=reason is None,
            reason=reason,
        )

    def _listing_in_the_end(self, added: VoiceFolder) -> VoiceListing:
        deleted = replace(added, reason="It was deleted right after it was added.")
        return self._listing(self._library.find(added.id) or deleted)

    async def _prepare(self, folder: VoiceFolder) -> VoicePrompt:
        """From the cache folder, or encoded."""
        try:
            key, found = await asyncio.to_thread(self._load, folder)
            if isinstance(found, VoicePrompt):
                return found
            prompt = await self._engine.encode_voice(found)
        except (InvalidClip, VoiceNotFound) as refusal:
            self._refused[folder.id] = (folder.revision, refusal.message)
            message = f"The voice {folder.id} is not available: {refusal.message}"
            raise VoiceNotFound(message) from refusal
        self._metrics.voice_encodings.inc()
        await asyncio.to_thread(self._save, folder, key, prompt)
        return prompt

    def _load(self, folder: VoiceFolder) -> tuple[str, VoicePrompt | VoiceReference]:
        """The key of the prompt, and the prompt; or, if it is not on disk, what it is encoded from."""
        fingerprint = self._engine.facts.fingerprint
        with open_clip(folder) as clip:
            key = self._key(folder, clip)
            return key, self._store.load(key, fingerprint) or read_reference(folder, clip)

    def _save(self, folder: VoiceFolder, key: str, prompt: VoicePrompt) -> None:
        """Raises VoiceNotFound, and keeps nothing, when the voice is no longer what was encoded."""
        self._store.save(key, prompt)
        # Looked for after it is saved: who deletes it later than that finds the file and deletes it, too.
        found = self._library.find(folder.id)
        if found is None or found.revision != folder.revision:
            self._store.discard(key)
            raise VoiceNotFound(f"The voice {folder.id} was deleted or changed while it was encoded.")

    def _key(self, folder: VoiceFolder, clip: BufferedReader) -> str:
        manifest = manifest_of(folder)
        return prompt_key(
            clip, folder.transcript, manifest.mode, manifest.language, self._engine.facts.fingerprint
        )

    def _reference(self, voice_id: str, as_it_is: bool) -> VoiceReference:
        folder = self._find(voice_id)
        with open_clip(folder) as clip:
            return read_reference(folder, clip, as_it_is=as_it_is)

    def _check(self, voice_id: str) -> ClipReport:
        folder = self._find(voice_id)
        with open_clip(folder) as clip:
            _, report = read_clip(clip)
        return _with_transcript(report, folder.transcript)

    def _keep(self, upload: VoiceUpload) -> tuple[VoiceFolder, ClipReport]:
        described = self._library.require_room(upload.voice_id())
        manifest = upload.manifest(described.manifest if described else None)
        clip, report = read_clip(upload.audio)
        report = _with_transcript(report, manifest.transcript)
        described_by = manifest.model_copy(update={"transcript": None, "sample_rate": clip.sample_rate_hz})
        return self._library.add(described_by, clip, manifest.transcript), report

    def _delete(self, voice_id: str) -> None:
        """With the prompt on disk: who deletes a voice does not expect it to be kept elsewhere."""
        key = None
        with suppress(VoiceNotFound), open_clip(folder := self._find(voice_id)) as clip:
            key = self._key(folder, clip)
        self._library.remove(voice_id)
        if key is not None:
            self._store.discard(key)


def _with_transcript(report: ClipReport, transcript: str | None) -> ClipReport:
    warnings = (*report.warnings, *transcript_warnings(transcript, report.used_ms / 1000))
    return report.model_copy(update={"warnings": warnings})
