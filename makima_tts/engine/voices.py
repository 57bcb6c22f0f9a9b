"""The voices that speak now, on the device.

In: voice prompts. Out: their tensors, and what the talker remembers of them. Does not know: voices' names,
utterances, how voices are encoded.

What is kept is bounded by count; what an utterance speaks with it has already copied into its slot.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from makima_tts.model.layers import KeyValueCache
from makima_tts.model.prompt import VoiceRows
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.voice_encoding import EncodedVoice, voice_from
from makima_tts.speech import VoicePrompt

_MOST = 8


@dataclass(slots=True)
class LoadedVoice:
    """``constants``: keys and values of the prompt rows that depend on this voice, by (language, manner)."""

    prompt: VoicePrompt | None
    encoded: EncodedVoice
    constants: dict[tuple[str, bool], KeyValueCache] = field(default_factory=dict)


class LoadedVoices:
    """The last few that were used. Engine thread only."""

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._loaded: OrderedDict[int, LoadedVoice] = OrderedDict()

    def get(self, prompt: VoicePrompt | None) -> LoadedVoice:
        """``None``: no speaker, no reference."""
        key = id(prompt)  # of an object that is kept beside it, and so is nobody else's
        voice = self._loaded.get(key)
        if voice is None:
            voice = self._loaded[key] = self._load(prompt)
        self._loaded.move_to_end(key)
        while len(self._loaded) > _MOST:
            self._loaded.popitem(last=False)
        return voice

    def _load(self, prompt: VoicePrompt | None) -> LoadedVoice:
        if prompt is None:
            return LoadedVoice(None, EncodedVoice(VoiceRows(), {}))
        return LoadedVoice(prompt, voice_from(self._model, prompt.tensors))
