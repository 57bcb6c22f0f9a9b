"""What the talker reads before and while it speaks: prompt rows, and trailing text.

In: text ids, a language, a voice's rows. Out: a Prompt. Does not know: tokenizers, audio, the cache.

Every row is a projected text embedding plus a codec embedding (docs/model.md draws them). N rows · E talker's
hidden size · T reference frames · Q codebooks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import ModelConfig, TalkerConfig
from makima_tts.model.code_predictor import CodePredictor
from makima_tts.model.talker import Talker
from makima_tts.model.transfers import sent
from makima_tts.protocol import AUTO


@dataclass(frozen=True, slots=True)
class VoiceRows:
    """A voice in the talker's own terms.

    ``x_vector``: [E], or None to speak without a speaker. For cloning with a transcript (ICL),
    ``reference_text`` [N, E] and ``reference_frames`` [T, E] are its rows; else both are None.
    """

    x_vector: Tensor | None = None
    reference_text: Tensor | None = None
    reference_frames: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """``constant`` [N, E] depends on voice and language only, ``rest`` [N, E] follows it.

    ``trailing`` [N, E]: one row goes into each frame after the first; when they are used up, tts_pad does.
    """

    constant: Tensor = field(repr=False)
    rest: Tensor = field(repr=False)
    trailing: Tensor = field(repr=False)

    @property
    def rows(self) -> Tensor:
        return torch.cat((self.constant, self.rest))


class PromptWriter:
    """Writes prompts with the embeddings of one model. ``pad`` [E]: the row of a text that is used up."""

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
        """A text that is complete. ``language``: an English name, or Auto.

        ``text_streams``: text is read along with speech, a row a frame, rather than all before it.
        """
        if text_streams and voice.reference_frames is None:
            return self.open(ids, language, voice, ended=True)
        text = self.text_rows(ids)
        if voice.reference_frames is not None:
            return self._icl(text, language, voice, text_streams=text_streams)
        head = self._head(language, voice)
        written = torch.cat((text, self.eos[None])) + self._codec(self._ids.codec_pad_id)
        return Prompt(head, torch.cat((written, self.begin(self.pad[None]))), self.pad[None])

    def begin(self, first: Tensor) -> Tensor:
        """The row where speech begins, and the first text row with it: [1, E] → [1, E]."""
        return first + self._codec(self._ids.codec_bos_id)

    def open(self, ids: Sequence[int], language: str, voice: VoiceRows, *, ended: bool) -> Prompt:
        """A text that may still grow, for a voice without a transcript; one id at least.

        Until it has ``ended``, what is missing of ``trailing`` is to be appended: ``further`` rows.
        """
        text = self.further(ids, ended=ended)
        return Prompt(self._head(language, voice), self.begin(text[:1]), text[1:])

    def further(self, ids: Sequence[int], *, ended: bool) -> Tensor:
        """What trails of further text: [N, E]."""
        text = self.text_rows(ids)
        return torch.cat((text, self.eos[None])) if ended else text

    def _icl(self, text: Tensor, language: str, voice: VoiceRows, *, text_streams: bool) -> Prompt:
        """The voice goes on speaking: its transcript and the text beside its frames."""
        reference, frames = voice.reference_text, voice.reference_frames
        if reference is None or frames is None:
            raise ValueError("cloning with a transcript needs the transcript's rows and the frames'")
        head = self._head(language, voice)
        spoken = torch.cat((self._codec(self._ids.codec_bos_id)[None], frames))  # [1 + T, E]
        written = torch.cat((reference, text, self.eos[None]))  # [N, E]
        known = len(reference)
        if not text_streams:
            written = written + self._codec(self._ids.codec_pad_id)
            rest = torch.cat((written[known:], spoken + self.pad))
            return Prompt(torch.cat((head, written[:known])), rest, self.pad[None])
        # One more than the frames, so that what trails is never nothing.
        padding = self.pad.expand(max(0, len(spoken) + 1 - len(written)), -1)
        beside = torch.cat((written, padding))
        rows, trailing = beside[: len(spoken)] + spoken, beside[len(spoken) :]
        # The last row is always read anew: what comes of it is the first frame.
        known = min(known, len(rows) - 1)
        return Prompt(torch.cat((head, rows[:known])), rows[known:], trailing)

    def _head(self, language: str, voice: VoiceRows) -> Tensor:
        """Role, language, speaker; up to where speech or text begins: [N, E]."""
        ids = self._ids
        if language == AUTO:
            tags = [ids.codec_nothink_id, ids.codec_think_bos_id, ids.codec_think_eos_id]
        else:
            language_id = ids.codec_language_id[language.lower()]
            tags = [ids.codec_think_id, ids.codec_think_bos_id, language_id, ids.codec_think_eos_id]
        speaker = [] if voice.x_vector is None else [voice.x_vector[None]]
        tag_ids = sent(torch.tensor(tags), self._talker.device)
        codec = torch.cat((self._talker.embedding[tag_ids], *speaker)) + self.pad
        return torch.cat((self._role, codec, (self._codec(ids.codec_pad_id) + self.bos)[None]))

    def _codec(self, codec_id: int) -> Tensor:
        return self._talker.embedding[codec_id]  # [E]

    @property
    def _ids(self) -> TalkerConfig:
        return self._config.talker_config
