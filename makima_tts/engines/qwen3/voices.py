"""Voices on the device, each kept for as long as its prompt is.

The engine's copy of a voice is referenced by its VoicePrompt only weakly: it is freed with the prompt, on
whichever thread drops that last. By then no step reads it. The voice cache counts it by ``EngineShare``.
"""

from weakref import WeakKeyDictionary

from torch import Tensor

from makima_tts.model.prompt import VoiceRows
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.transformer import KeyValueCache
from makima_tts.model.voice_encoding import EncodedVoice, voice_from
from makima_tts.speech import EngineShare, VoicePrompt

# Language, and whether text rows go into the frames: the prompt rows that depend on the voice differ by both.
PrefixKey = tuple[str, bool]


class LoadedVoice:
    """A voice, and keys and values of the prompt rows that depend on it: its prefix cache."""

    def __init__(self, encoded: EncodedVoice, share: EngineShare) -> None:
        self.encoded = encoded
        self._share = share
        self._counted_bytes = 0
        self._prefixes: dict[PrefixKey, KeyValueCache] = {}
        rows = encoded.rows
        self._count(rows.x_vector, rows.reference_text, rows.reference_frames, *encoded.codec.values())

    def prefix(self, key: PrefixKey) -> KeyValueCache | None:
        return self._prefixes.get(key)

    def keep_prefix(self, key: PrefixKey, prefix: KeyValueCache) -> None:
        self._prefixes[key] = prefix
        self._count(prefix.keys, prefix.values)

    def _count(self, *tensors: Tensor | None) -> None:
        added = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        self._counted_bytes += added
        self._share.size_bytes += added

    def released(self) -> None:
        """It no longer counts: an utterance that uses it loads it again for its next piece."""
        self._share.size_bytes -= self._counted_bytes
        self._counted_bytes = 0


class LoadedVoices:
    """Engine thread only."""

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._no_voice = LoadedVoice(EncodedVoice(VoiceRows(), {}), EngineShare())
        self._loaded: WeakKeyDictionary[VoicePrompt, LoadedVoice] = WeakKeyDictionary()

    def release_all(self) -> None:
        """To free memory: they can be loaded again."""
        for voice in self._loaded.values():
            voice.released()
        self._loaded.clear()

    def get(self, prompt: VoicePrompt | None) -> LoadedVoice:
        """``None``: no speaker, no reference."""
        if prompt is None:
            return self._no_voice
        if (voice := self._loaded.get(prompt)) is None:
            voice = LoadedVoice(voice_from(self._model, prompt.tensors), prompt.engine_share)
            self._loaded[prompt] = voice
        return voice
