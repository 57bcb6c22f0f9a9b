"""Prompts: the talker's rows before the first frame, and the text rows added to later frames.

In: text ids, a language, a voice's rows. Out: a Prompt. Does not know: tokenizers, audio, the cache.

Every row is a projected text embedding plus a codec embedding (docs/model.md draws them). N rows · E talker's
hidden size · T reference frames · Q codebooks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import ModelConfig, TalkerConfig
from makima_tts.model.devices import to_device
from makima_tts.model.language_model import CodePredictor, PrefillChunk, Talker
from makima_tts.protocol import AUTO


@dataclass(frozen=True, slots=True)
class VoiceRows:
    """A voice as rows of the talker.

    ``x_vector``: [E], or None to speak without a speaker. For cloning with a transcript (ICL),
    ``reference_text`` [N, E] and ``reference_frames`` [T, E] are its rows; else both are None.
    """

    x_vector: Tensor | None = None
    reference_text: Tensor | None = None
    reference_frames: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """``voice_prefix`` [N, E] depends on voice and language only, ``remainder`` [N, E] follows it.

    ``trailing`` [N, E]: one row is added to each frame after the first; after the last one, tts_pad is.
    """

    voice_prefix: Tensor = field(repr=False)
    remainder: Tensor = field(repr=False)
    trailing: Tensor = field(repr=False)

    @property
    def rows(self) -> Tensor:
        return torch.cat((self.voice_prefix, self.remainder))


def split_into_chunks(
    prompt: Prompt, slot: int, most_rows: int, *, frame: int = 0, prefix_cached: bool = False
) -> list[PrefillChunk]:
    """A prompt in chunks of at most ``most_rows`` rows. ``prefix_cached``: without the voice prefix.

    The voice prefix and the rest are split separately, each at multiples from its own first row. So the
    splits, and the last bits of the result, depend neither on other utterances nor on what is cached.
    """
    prefix_rows = len(prompt.voice_prefix)
    prefix = [] if prefix_cached else _split(slot, 0, prompt.voice_prefix, most_rows)
    rest = _split(slot, prefix_rows, prompt.remainder, most_rows)
    return [*prefix, *rest[:-1], replace(rest[-1], trailing=prompt.trailing, frame=frame)]


def _split(slot: int, start: int, rows: Tensor, most_rows: int) -> list[PrefillChunk]:
    chunks = enumerate(torch.split(rows, most_rows))
    return [PrefillChunk(slot, start + number * most_rows, chunk) for number, chunk in chunks]


class PromptWriter:
    """Writes prompts with the embeddings of one model. ``pad`` [E]: the row after the end of the text."""

    def __init__(
        self, config: ModelConfig, talker: Talker, predictor: CodePredictor, role_ids: Sequence[int]
    ) -> None:
        self._config = config
        self._talker = talker
        self._predictor = predictor
        self._role = self.text_rows(role_ids)
        ids = (config.tts_bos_token_id, config.tts_eos_token_id, config.tts_pad_token_id)
        self.bos, self.eos, self.pad = self.text_rows(ids)

    def text_rows(self, ids: Sequence[int]) -> Tensor:
        """Projected text, [N, E]."""
        return self._talker.text.rows(ids)

    def frame_rows(self, codes: Tensor) -> Tensor:
        """The summed embeddings of frames, int64 [T, Q] → [T, E]."""
        rest = (table[codes[:, index + 1]] for index, table in enumerate(self._predictor.embeddings))
        return torch.stack([self._talker.embedding[codes[:, 0]], *rest], dim=1).sum(1)

    def write(
        self, ids: Sequence[int], language: str, voice: VoiceRows, *, text_streams: bool = True
    ) -> Prompt:
        """A complete text. ``language``: an English name, or Auto.

        ``text_streams``: text rows are added to frames, one each, instead of all preceding speech.
        """
        if text_streams and voice.reference_frames is None:
            return self.write_partial(ids, language, voice, ended=True)
        text = self.text_rows(ids)
        if voice.reference_frames is not None:
            return self._icl(text, language, voice, text_streams=text_streams)
        head = self._head(language, voice)
        text = torch.cat((text, self.eos[None])) + self._codec(self._ids.codec_pad_id)
        return Prompt(head, torch.cat((text, self.speech_begin(self.pad[None]))), self.pad[None])

    def speech_begin(self, first: Tensor) -> Tensor:
        """The row where speech begins, with the first text row ``first``: [1, E] → [1, E]."""
        return first + self._codec(self._ids.codec_bos_id)

    def write_partial(self, ids: Sequence[int], language: str, voice: VoiceRows, *, ended: bool) -> Prompt:
        """A text that may be continued, for a voice without a transcript; one id at least.

        Until it has ``ended``, ``trailing_rows`` of the continuation are appended to ``trailing``.
        """
        text = self.trailing_rows(ids, ended=ended)
        return Prompt(self._head(language, voice), self.speech_begin(text[:1]), text[1:])

    def trailing_rows(self, ids: Sequence[int], *, ended: bool) -> Tensor:
        """Text rows, with tts_eos after them if the text has ``ended``: [N, E]."""
        text = self.text_rows(ids)
        return torch.cat((text, self.eos[None])) if ended else text

    def _icl(self, text: Tensor, language: str, voice: VoiceRows, *, text_streams: bool) -> Prompt:
        """The reference is continued: transcript and text as one, beside the reference's frames."""
        reference, frames = voice.reference_text, voice.reference_frames
        if reference is None or frames is None:
            raise ValueError("cloning with a transcript needs rows of the transcript and of the frames")
        head = self._head(language, voice)
        codec = torch.cat((self._codec(self._ids.codec_bos_id)[None], frames))  # [1 + T, E]
        text_rows = torch.cat((reference, text, self.eos[None]))  # [N, E]
        cached = len(reference)
        if not text_streams:
            text_rows = text_rows + self._codec(self._ids.codec_pad_id)
            remainder = torch.cat((text_rows[cached:], codec + self.pad))
            return Prompt(torch.cat((head, text_rows[:cached])), remainder, self.pad[None])
        # One more than the frames, so that there is a trailing row.
        padding = self.pad.expand(max(0, len(codec) + 1 - len(text_rows)), -1)
        padded = torch.cat((text_rows, padding))
        rows, trailing = padded[: len(codec)] + codec, padded[len(codec) :]
        # The last row is never part of the prefix: its output is the first frame.
        cached = min(cached, len(rows) - 1)
        return Prompt(torch.cat((head, rows[:cached])), rows[cached:], trailing)

    def _head(self, language: str, voice: VoiceRows) -> Tensor:
        """Role, language, speaker; up to where speech or text begins: [N, E]."""
        ids = self._ids
        if language == AUTO:
            tags = [ids.codec_nothink_id, ids.codec_think_bos_id, ids.codec_think_eos_id]
        else:
            language_id = ids.codec_language_id[language.lower()]
            tags = [ids.codec_think_id, ids.codec_think_bos_id, language_id, ids.codec_think_eos_id]
        speaker = [] if voice.x_vector is None else [voice.x_vector[None]]
        tag_ids = to_device(torch.tensor(tags), self._talker.device)
        codec = torch.cat((self._talker.embedding[tag_ids], *speaker)) + self.pad
        return torch.cat((self._role, codec, (self._codec(ids.codec_pad_id) + self.bos)[None]))

    def _codec(self, codec_id: int) -> Tensor:
        return self._talker.embedding[codec_id]  # [E]

    @property
    def _ids(self) -> TalkerConfig:
        return self._config.talker_config
