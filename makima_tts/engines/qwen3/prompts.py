"""Writes prompts: a slot's voice and seed, the prompt of a piece, the text rows that follow an open text.

In: utterances whose text came. Out: prompt chunks in their states, rows in the slots' buffers; voices on the
device, with their prefix caches. Does not know: when chunks are prefilled, frames, sound.
"""

import secrets
from collections import deque
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from makima_tts.engines.qwen3.runner import Runner
from makima_tts.engines.qwen3.utterance import EngineUtterance, Prefilling, SynthesisOptions
from makima_tts.errors import InvalidText, NothingToSay
from makima_tts.model.prompt import Prompt, VoiceRows
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.transformer import KeyValueCache
from makima_tts.model.voice_encoding import EncodedVoice, voice_from
from makima_tts.speech import EngineShare, VoicePrompt
from makima_tts.text import longest_speech_s

# Language, and whether text rows go into the frames: the prompt rows that depend on the voice differ by both.
PrefixKey = tuple[str, bool]

_TOO_LONG = "This text is too long to be spoken in one breath; put a full stop into it."


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
    """Voices on the device, each for as long as its prompt is in use. Engine thread only.

    A VoicePrompt is referenced weakly: the engine's copy is freed with it, on whichever thread drops it last.
    By then no step reads it. The voice cache counts it by ``EngineShare``.
    """

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


class Prompts:
    """Engine thread only."""

    def __init__(self, model: SpeechModel, runner: Runner, options: SynthesisOptions) -> None:
        self._model = model
        self._runner = runner
        self._options = options
        self._voices = LoadedVoices(model)
        self._sampling = Sampling.of(model.config.generation, greedy=options.greedy)

    def begin(self, utterance: EngineUtterance) -> None:
        """Its slot forgets the utterance before."""
        request, voice = utterance.request, self._voice_of(utterance).encoded
        seed = secrets.randbits(63) if request.seed is None else request.seed
        self._runner.begin(utterance.slot, self._sampling, _signed(seed), voice.codec)
        # A transcript is read beside its frames, and the text right after it: all of the text must be there.
        utterance.streams_text = self._options.text_streams and voice.rows.reference_frames is None

    def write(self, utterance: EngineUtterance, now_s: float) -> None:
        """The text that came: as a prompt, or as rows that follow it. To prefill it is another matter."""
        piece = utterance.piece
        text, rows = "".join(piece.unwritten), 0
        piece.unwritten.clear()
        if piece.prompt_rows:
            rows = self._append(utterance, self._model.tokenizer.encode_continuation(text))
        elif ids := self._model.tokenizer.encode(text):
            rows = self._begin_prompt(utterance, ids)
        elif not piece.is_open:
            raise NothingToSay("There is nothing to speak in this text; send words or numbers.")
        piece.budget_frames = self._budget_frames(utterance)
        utterance.resume(rows, now_s, self._runner.frame_s)

    def _begin_prompt(self, utterance: EngineUtterance, ids: list[int]) -> int:
        """Returns its text rows."""
        prompt, piece, slot = self._prompt(utterance, ids), utterance.piece, utterance.slot
        prefix = self._voice_of(utterance).prefix(self._prefix_key(utterance))
        if prefix is not None:
            self._runner.restore_prefix(slot, prefix)
        # Each piece that ended before has used up a frame number for its end.
        frame, cached = utterance.frames + piece.index, prefix is not None
        chunks = self._runner.prefill_chunks(slot, prompt, frame=frame, prefix_cached=cached)
        utterance.begin_prefill(Prefilling(deque(chunks), 0 if cached else len(prompt.voice_prefix)))
        piece.text_rows = len(prompt.trailing)
        piece.prompt_rows = len(prompt.voice_prefix) + len(prompt.remainder)
        return piece.text_rows + 1

    def _prompt(self, utterance: EngineUtterance, ids: list[int]) -> Prompt:
        prompts, language = self._model.prompts, utterance.request.language
        voice, text_streams = self._voice_of(utterance).encoded.rows, self._options.text_streams
        if utterance.streams_text:
            prompt = prompts.write_partial(ids, language, voice, ended=not utterance.piece.is_open)
        else:
            prompt = prompts.write(ids, language, voice, text_streams=text_streams)
        rows = len(prompt.voice_prefix) + len(prompt.remainder)
        if rows + 1 >= self._runner.positions or len(prompt.trailing) > self._runner.positions:
            raise InvalidText(_TOO_LONG)
        return prompt

    def _append(self, utterance: EngineUtterance, ids: list[int]) -> int:
        """Returns the text rows that it has added."""
        piece, chunks = utterance.piece, utterance.chunks
        rows = self._model.prompts.trailing_rows(ids, ended=not piece.is_open)
        if piece.text_rows + len(rows) > self._runner.positions:
            raise InvalidText(_TOO_LONG)
        if chunks:
            chunks[-1] = replace(chunks[-1], trailing=_joined(chunks[-1].trailing, rows))
        else:
            self._runner.append_text(utterance.slot, piece.text_rows, rows)
        piece.text_rows += len(rows)
        return len(rows)

    def _budget_frames(self, utterance: EngineUtterance) -> int:
        """Frames that a piece may have: as long as its text can take to say, and as there is room for.

        An open text has no more than it has rows for, so that only the room is a bound.
        """
        piece, max_frames = utterance.piece, self._options.max_frames
        room = self._runner.positions - piece.prompt_rows
        if max_frames is not None:
            room = min(room, max_frames - (utterance.frames - piece.frames))
        if piece.is_open or self._options.raw:
            return room
        needed_s = longest_speech_s(piece.text, utterance.request.language)
        return min(room, round(needed_s / self._runner.frame_s))

    def keep_prefix(self, utterance: EngineUtterance, rows: int) -> None:
        """The voice prefix is prefilled: the next prompt of this voice is spared that."""
        voice, key = self._voice_of(utterance), self._prefix_key(utterance)
        if voice.prefix(key) is None:
            voice.keep_prefix(key, self._runner.prefix(utterance.slot, rows))

    def _prefix_key(self, utterance: EngineUtterance) -> PrefixKey:
        return utterance.request.language, self._options.text_streams

    def _voice_of(self, utterance: EngineUtterance) -> LoadedVoice:
        return self._voices.get(utterance.request.voice)

    def release_voices(self) -> None:
        """To free memory: they are loaded again when they are needed."""
        self._voices.release_all()


def _joined(rows: Tensor | None, more: Tensor) -> Tensor:
    return more if rows is None else torch.cat((rows, more))


def _signed(seed: int) -> int:
    """The same 64 bits as a signed number, which is what tensors hold."""
    return (seed + 2**63) % 2**64 - 2**63
