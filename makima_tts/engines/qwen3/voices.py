"""The voices that speak, on the device.

In: voice prompts. Out: their tensors, and what the talker remembers of them. Does not know: voices' names,
utterances, how voices are encoded, what memory there is for them.

What is kept of a voice lasts as long as its prompt does, which those who speak with it hold, and the cache it
came from until it needs the room. Whoever lets it go last lets this go, on whichever thread that is: by then
nothing reads it.
"""

from weakref import WeakKeyDictionary

from torch import Tensor

from makima_tts.model.prompt import VoiceRows
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.transformer import KeyValueCache
from makima_tts.model.voice_encoding import EncodedVoice, voice_from
from makima_tts.speech import EngineShare, VoicePrompt


class LoadedVoice:
    """A voice, and keys and values of the prompt rows that depend on it, by (language, manner)."""

    def __init__(self, encoded: EncodedVoice, share: EngineShare) -> None:
        self.encoded = encoded
        self._share = share
        self._counted_bytes = 0
        self._constants: dict[tuple[str, bool], KeyValueCache] = {}
        rows = encoded.rows
        self._count(rows.x_vector, rows.reference_text, rows.reference_frames, *encoded.codec.values())

    def constant(self, language: str, text_streams: bool) -> KeyValueCache | None:
        return self._constants.get((language, text_streams))

    def keep_constant(self, language: str, text_streams: bool, constant: KeyValueCache) -> None:
        self._constants[language, text_streams] = constant
        self._count(constant.keys, constant.values)

    def _count(self, *tensors: Tensor | None) -> None:
        added = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        self._counted_bytes += added
        self._share.size_bytes += added

    def let_go(self) -> None:
        """Whoever speaks with it loads it anew for the next piece."""
        self._share.size_bytes -= self._counted_bytes
        self._counted_bytes = 0


class LoadedVoices:
    """Engine thread only."""

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._nobody = LoadedVoice(EncodedVoice(VoiceRows(), {}), EngineShare())
        self._loaded: WeakKeyDictionary[VoicePrompt, LoadedVoice] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._loaded)

    def let_go(self) -> None:
        """All of them: what they come to can be had again."""
        for voice in self._loaded.values():
            voice.let_go()
        self._loaded.clear()

    def get(self, prompt: VoicePrompt | None) -> LoadedVoice:
        """``None``: no speaker, no reference."""
        if prompt is None:
            return self._nobody
        if (voice := self._loaded.get(prompt)) is None:
            voice = LoadedVoice(voice_from(self._model, prompt.tensors), prompt.engine_share)
            self._loaded[prompt] = voice
        return voice
