"""What is spoken, as the talker reads it: prompts, and the rows that follow while a text grows.

In: utterances with text that came. Out: parts of prompts to be read, rows in the slots' buffers. Does not
know: when they are read, frames, sound.
"""

from collections import deque
from dataclasses import replace

import torch
from torch import Tensor

from makima_tts.engines.qwen3.manner import Manner
from makima_tts.engines.qwen3.runner import Runner
from makima_tts.engines.qwen3.utterance import EngineUtterance, PieceState
from makima_tts.engines.qwen3.voices import LoadedVoices
from makima_tts.errors import InvalidText, SynthesisError
from makima_tts.model.prompt import Prompt
from makima_tts.model.speech_model import SpeechModel
from makima_tts.text import longest_speech_s

_TOO_LONG = "This text is too long to be spoken in one breath; put a full stop into it."


class Writing:
    """Engine thread only."""

    def __init__(self, model: SpeechModel, runner: Runner, manner: Manner, voices: LoadedVoices) -> None:
        self._model = model
        self._runner = runner
        self._manner = manner
        self._voices = voices
        self._frame_s = model.frame_samples / model.sample_rate_hz

    def can_grow(self, utterance: EngineUtterance) -> bool:
        """A transcript is read beside its frames, and the text right after it: all of it must be there."""
        voice = self._voices.get(utterance.request.voice).encoded.rows
        return self._manner.text_streams and voice.reference_frames is None

    def constant_key(self, utterance: EngineUtterance) -> tuple[str, bool]:
        return utterance.request.language, self._manner.text_streams

    def write(self, utterance: EngineUtterance, now_s: float) -> None:
        """What came of its piece: the prompt, or what follows it; to read it is another matter."""
        piece = piece_of(utterance)
        text, piece.unwritten = piece.unwritten or "", None
        written = piece.rows
        if piece.unread is not None:
            ids = self._model.tokenizer.encode_continuation(text)
            self._append(utterance, piece, self._model.prompts.trailing_rows(ids, ended=not piece.is_open))
        elif ids := self._model.tokenizer.encode(text):
            self._begin(utterance, piece, self._prompt(utterance, piece, ids))
        elif not piece.is_open:
            raise InvalidText("There is nothing to speak in this text; send words or numbers.")
        piece.budget_frames = self._budget(utterance, piece)
        utterance.speak_on(piece, piece.rows - written, now_s, self._frame_s)

    def _begin(self, utterance: EngineUtterance, piece: PieceState, prompt: Prompt) -> None:
        slot = utterance.lease.slot
        constant = self._voices.get(utterance.request.voice).constant(*self.constant_key(utterance))
        if constant is not None:
            self._runner.put_constant(slot, constant)
        # What ended a piece before was drawn as well.
        frame, known = utterance.frames + piece.index, constant is not None
        piece.unread = deque(self._runner.parts(slot, prompt, frame=frame, prefix_cached=known))
        piece.unknown_rows = 0 if constant is not None else len(prompt.voice_prefix)
        piece.trailing = len(prompt.trailing)
        piece.position = len(prompt.voice_prefix) + len(prompt.remainder)
        piece.room_frames = self._room(utterance, piece)

    def _prompt(self, utterance: EngineUtterance, piece: PieceState, ids: list[int]) -> Prompt:
        voice = self._voices.get(utterance.request.voice).encoded.rows
        prompts, language = self._model.prompts, utterance.request.language
        if utterance.grows:
            prompt = prompts.write_partial(ids, language, voice, ended=not piece.is_open)
        else:
            prompt = prompts.write(ids, language, voice, text_streams=self._manner.text_streams)
        rows = len(prompt.voice_prefix) + len(prompt.remainder)
        if rows + 1 >= self._runner.positions or len(prompt.trailing) > self._runner.text_rows:
            raise InvalidText(_TOO_LONG)
        return prompt

    def _append(self, utterance: EngineUtterance, piece: PieceState, rows: Tensor) -> None:
        if piece.trailing + len(rows) > self._runner.text_rows:
            raise InvalidText(_TOO_LONG)
        if piece.unread:
            last = piece.unread[-1]
            before = [] if last.trailing is None else [last.trailing]
            piece.unread[-1] = replace(last, trailing=torch.cat((*before, rows)))
        else:
            self._runner.append(utterance.lease.slot, piece.trailing, rows)
        piece.trailing += len(rows)

    def _room(self, utterance: EngineUtterance, piece: PieceState) -> int:
        room, most = self._runner.positions - piece.position, self._manner.max_frames
        return room if most is None else min(room, most - utterance.frames)

    def _budget(self, utterance: EngineUtterance, piece: PieceState) -> int:
        """Frames that a piece may have: what its text can take to say, and there is room for.

        While the text may grow, there are no more than it has rows for.
        """
        if piece.is_open or self._manner.raw:
            return piece.room_frames
        needed = longest_speech_s(piece.text, utterance.request.language) / self._frame_s
        return min(piece.room_frames, round(needed))


def piece_of(utterance: EngineUtterance) -> PieceState:
    if utterance.piece is None:
        raise SynthesisError("An utterance without a piece cannot speak.")
    return utterance.piece
