"""From the voice id that a client asks for to the prompt that an engine speaks with.

In: voice ids, uploads. Out: :class:`ResolvedVoice`, listings, reports on clips. Does not know: sessions,
HTTP, how an engine encodes.

All disk access runs in worker threads, so that an upload delays no audio. A prompt is a value: an utterance
that speaks with the prompt of a deleted voice finishes.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from io import BufferedReader, BytesIO
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from makima_tts.audio import ClipReport, read_clip
from makima_tts.errors import InvalidClip, InvalidMessage, TtsError, TtsUnavailable, VoiceNotFound
from makima_tts.metrics import Metrics
from makima_tts.protocol import AUTO
from makima_tts.speech import SpeechEngine, VoicePrompt, VoiceReference
from makima_tts.voices.inline import InlineClip
from makima_tts.voices.library import (
    Revision,
    VoiceFolder,
    VoiceLibrary,
    VoiceUpload,
    manifest_of,
    open_clip,
    read_reference,
)
from makima_tts.voices.names import id_of_name, is_voice_id
from makima_tts.voices.prompts import PromptCache, PromptStore, prompt_key

NARRATOR = "narrator"
_USE_ENGINE_THAT_CLONES = (
    "let the operator run one that can: pip install 'makima-tts[qwen3]', TTS_ENGINE=qwen3."
)
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
    """Event loop only, except ``list``, ``describe`` and ``expect``, which any thread may call."""

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
        self._cache = PromptCache(max_count, max_bytes, ttl_s, metrics, clock)
        # By voice id: why the engine or the clip reader refused it, valid until the folder changes.
        self._refused: dict[str, tuple[Revision, str]] = {}
        # Clips that clients send are decoded one at a time, so that memory holds one clip.
        self._decode_lock = asyncio.Lock()

    async def prepare_default(self) -> ResolvedVoice:
        """Sweep leftovers and encode the default voice. Raises VoiceNotFound."""
        await asyncio.to_thread(self._library.sweep)
        await asyncio.to_thread(self._store.sweep)
        voice = await self.resolve(self._default)
        if voice.warning:
            _log.info("default_voice_not_available", voice=self._default, speaks=voice.id)
        return voice

    async def resolve(self, requested: str | None) -> ResolvedVoice:
        """``requested``, the default voice, the narrator: the first that is usable.

        Raises VoiceNotFound when none is usable, or the error with which the engine failed to encode one of
        them; TtsUnavailable at once, without trying the others.
        """
        refusals: list[str] = []
        failures: list[TtsError] = []
        for voice_id in self._candidates(requested):
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
                if requested is None or not refusals:
                    return voice
                return replace(voice, warning=f"{refusals[0]} The voice {voice.id} speaks instead.")
        raise failures[0] if failures else VoiceNotFound(f"No voice is usable. {refusals[0]}")

    async def get(self, voice_id: str) -> ResolvedVoice:
        """Exactly this voice, encoded. Raises VoiceNotFound with what to do."""
        if not self._engine.facts.cloning:
            if id_of_name(voice_id) == NARRATOR:
                return ResolvedVoice(NARRATOR, None)
            name = f"The voice {voice_id} is" if is_voice_id(voice_id) else "This voice is"
            raise VoiceNotFound(f"{name} not available: {self._no_cloning()}")
        folder = await asyncio.to_thread(self._find, voice_id)
        if reason := self._reason(folder):
            raise VoiceNotFound(f"The voice {folder.id} is not available: {reason}")
        prompt = await self._cache.get((folder.id, folder.revision), partial(self._encode, folder))
        return ResolvedVoice(folder.id, prompt)

    async def clone(self, clip: InlineClip) -> VoicePrompt:
        """The voice of a clip that came with a request; it is kept in memory only.

        Raises InvalidMessage (not base64, or the engine cannot clone), InvalidClip.
        """
        if not self._engine.facts.cloning:
            raise InvalidMessage(f"{self._no_cloning()} Leave ref_audio out, or {_USE_ENGINE_THAT_CLONES}")
        file, key = await asyncio.to_thread(self._open, clip)
        # Voices of the library have names.
        return await self._cache.get(("", key), partial(self._encode_inline, clip, file))

    def list(self) -> list[VoiceListing]:
        """All voices as they are on disk now, sorted by id. Blocks."""
        listings = {folder.id: self._listing(folder) for folder in self._library.voices()}
        if not self._engine.facts.cloning:
            listings[NARRATOR] = self._engine_listing()
        return [listings[voice_id] for voice_id in sorted(listings)]

    def describe(self, voice_id: str) -> VoiceListing:
        """Blocks. Raises VoiceNotFound."""
        if id_of_name(voice_id) == NARRATOR and not self._engine.facts.cloning:
            return self._engine_listing()
        return self._listing(self._find(voice_id))

    def expect(self) -> VoiceListing:
        """The voice that ``resolve(None)`` will return, as far as is known without encoding. Blocks.

        Raises VoiceNotFound when no voice is available.
        """
        available = {listing.id: listing for listing in self.list() if listing.available}
        for voice_id in self._candidates(None):
            if voice_id in available:
                return available[voice_id]
        raise VoiceNotFound(f"Neither {self._default} nor {NARRATOR} is available.")

    async def reference(self, voice_id: str, *, as_it_is: bool = False) -> VoiceReference:
        """What a voice is encoded from; ``as_it_is``: its clip is not mended.

        Raises VoiceNotFound, InvalidClip.
        """
        return await asyncio.to_thread(self._reference, voice_id, as_it_is)

    async def check(self, voice_id: str) -> ClipReport:
        """A report on the clip of a voice. Raises VoiceNotFound, InvalidClip."""
        return await asyncio.to_thread(self._check, voice_id)

    async def add(self, upload: VoiceUpload) -> tuple[VoiceListing, ClipReport]:
        """Store a voice. It is encoded now if the engine runs, else at its first use.

        The listing shows the voice as it is at the end, when it may be deleted already. Raises
        InvalidMessage, InvalidClip, Conflict, and TtsUnavailable when the disk cannot be written.
        """
        async with self._decode_lock:
            folder, report = await asyncio.to_thread(self._add, upload)
        if self._engine.facts.cloning and self._engine.health().alive:
            try:
                await self.get(folder.id)
            except TtsError as error:
                _log.warning("uploaded_voice_not_encoded", voice=folder.id, code=error.code)
        deleted = replace(folder, reason="It was deleted right after it was added.")
        found = await asyncio.to_thread(self._library.find, folder.id)
        return self._listing(found or deleted), report

    async def delete(self, voice_id: str) -> None:
        """Raises VoiceNotFound, Forbidden (a shipped voice), TtsUnavailable (the disk is not writable)."""
        await asyncio.to_thread(self._delete, voice_id)
        self._refused.pop(voice_id, None)
        self._cache.discard(voice_id)

    async def close(self) -> None:
        """Cancel the running encodings."""
        await self._cache.close()

    def _candidates(self, requested: str | None) -> dict[str, None]:
        """Distinct ids, in the order in which they are tried."""
        first = {} if requested is None else {requested: None}
        return {**first, self._default: None, NARRATOR: None}

    def _find(self, voice_id: str) -> VoiceFolder:
        if (folder := self._library.find_named(voice_id)) is not None:
            return folder
        # A malformed id may hold anything, so the message does not repeat it.
        name = f"{voice_id} " if is_voice_id(voice_id) else ""
        raise VoiceNotFound(f"There is no voice {name}here; GET /api/v1/voices lists those there are.")

    def _reason(self, folder: VoiceFolder) -> str | None:
        """Why it is not available, as far as is known without encoding."""
        if not self._engine.facts.cloning:
            return self._no_cloning()
        revision, refusal = self._refused.get(folder.id, ((), None))
        return folder.reason or (refusal if revision == folder.revision else None)

    def _no_cloning(self) -> str:
        return f"The engine {self._engine.facts.name} has one voice, {NARRATOR}, and cannot clone others."

    def _engine_listing(self) -> VoiceListing:
        languages = self._engine.facts.languages
        return VoiceListing(
            id=NARRATOR,
            name="Narrator",
            language=languages[0] if len(languages) == 1 else AUTO,
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

    async def _encode(self, folder: VoiceFolder) -> VoicePrompt:
        """From the cache folder, or encoded by the engine."""
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

    def _open(self, clip: InlineClip) -> tuple[BytesIO, str]:
        file = clip.open()
        return file, prompt_key(file, clip.transcript, clip.mode, self._engine.facts.fingerprint)

    async def _encode_inline(self, clip: InlineClip, file: BytesIO) -> VoicePrompt:
        async with self._decode_lock:
            reference = await asyncio.to_thread(clip.reference, file)
        prompt = await self._engine.encode_voice(reference)
        self._metrics.voice_encodings.inc()
        return prompt

    def _load(self, folder: VoiceFolder) -> tuple[str, VoicePrompt | VoiceReference]:
        """The key of the prompt, and the prompt; if it is not on disk, the reference to encode."""
        with open_clip(folder) as clip:
            key = self._key(folder, clip)
            prompt = self._store.load(key, self._engine.facts.fingerprint)
            return key, prompt or read_reference(folder, clip)

    def _save(self, folder: VoiceFolder, key: str, prompt: VoicePrompt) -> None:
        """Raises VoiceNotFound, and keeps nothing, when the voice was deleted or changed meanwhile."""
        self._store.save(key, prompt)
        # Checked after saving: a later delete finds the file and removes it itself.
        found = self._library.find(folder.id)
        if found is None or found.revision != folder.revision:
            self._store.discard(key)
            raise VoiceNotFound(f"The voice {folder.id} was deleted or changed while it was encoded.")

    def _key(self, folder: VoiceFolder, clip: BufferedReader) -> str:
        manifest, fingerprint = manifest_of(folder), self._engine.facts.fingerprint
        return prompt_key(clip, folder.transcript, manifest.mode, manifest.language, fingerprint)

    def _reference(self, voice_id: str, as_it_is: bool) -> VoiceReference:
        folder = self._find(voice_id)
        with open_clip(folder) as clip:
            return read_reference(folder, clip, as_it_is=as_it_is)

    def _check(self, voice_id: str) -> ClipReport:
        folder = self._find(voice_id)
        with open_clip(folder) as clip:
            language = (folder.manifest.language if folder.manifest else None) or AUTO
            return read_clip(clip, folder.transcript, language)[1]

    def _add(self, upload: VoiceUpload) -> tuple[VoiceFolder, ClipReport]:
        voice_id, described = self._library.place(upload.name)
        manifest = upload.manifest(voice_id, described.manifest if described else None)
        clip, report = read_clip(upload.audio, manifest.transcript, manifest.language or AUTO)
        stored = manifest.model_copy(update={"transcript": None, "sample_rate": clip.sample_rate_hz})
        return self._library.add(stored, clip, manifest.transcript), report

    def _delete(self, voice_id: str) -> None:
        """Deletes the prompt on disk too: a deleted voice must leave nothing behind."""
        key, folder = None, self._library.find(voice_id)  # exactly this one
        if folder is not None:
            with suppress(VoiceNotFound), open_clip(folder) as clip:
                key = self._key(folder, clip)
        self._library.remove(voice_id)
        if key is not None:
            self._store.discard(key)
