"""Forced alignment by PocketSphinx: the text is known, so only the times are searched for.

In: words and sound. Out: begin and end of each word in seconds. Does not know: processes, pieces.

A word that the dictionary lacks is pronounced letter by letter: between neighbours that fit, a rough guess of
its sounds moves its edges by a hundredth of a second only.
"""

import re
import string
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import soxr
from pocketsphinx import Decoder

_RATE_HZ = 16_000
_FRAMES_PER_S = 100
# Words at the edge of a clip are found better with silence beside them.
_PADDING_S = 0.2
# Wider than PocketSphinx's own: the one true path must not be pruned where the sound is unusual.
_BEAM = 1e-80
# Text of another language has fewer words of an English dictionary.
_LEAST_KNOWN_SHARE = 0.75
# Guessed words stay in the dictionary until it is loaded anew.
_MAX_GUESSED = 2000

_PARTS = re.compile(r"[a-z]+(?:'[a-z]+)*|[0-9]")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# A sound for each letter, in the alphabet of CMUdict.
_SOUNDS = "AE,B,K,D,EH,F,G,HH,IH,JH,K,L,M,N,AA,P,K,R,S,T,AH,V,W,K S,IY,Z"
_LETTERS = dict(zip(string.ascii_lowercase, _SOUNDS.split(","), strict=True))


class EnglishAligner:
    """Loading takes a few tenths of a second, a second of sound some 20 ms."""

    def __init__(self) -> None:
        self._load()

    def _load(self) -> None:
        self._decoder = Decoder(
            lm=None, loglevel="FATAL", samprate=_RATE_HZ, beam=_BEAM, pbeam=_BEAM, wbeam=_BEAM
        )
        # Words that are in no dictionary → their names in this one.
        self._guessed: dict[str, str] = {}

    def align(
        self, words: Sequence[str], pcm: npt.NDArray[np.int16], rate_hz: int, *, whole: bool
    ) -> list[tuple[float, float]]:
        """``pcm``: [samples], mono. Of a beginning (``whole`` false): the words in it but the last one.

        Empty if the words do not fit the sound, or are not English.
        """
        if len(self._guessed) > _MAX_GUESSED:
            self._load()
        spelled = [_spelled(word) for word in words]
        known = sum(all(map(self._pronunciation, _PARTS.findall(word))) for word in spelled)
        if not all(map(_PARTS.search, spelled)) or known < _LEAST_KNOWN_SHARE * len(words):
            return []
        self._decoder.set_align_text(" ".join(map(self._name, spelled)))
        found = list(self._search(pcm, rate_hz, whole=whole))
        if whole:
            return found if len(found) == len(words) else []
        return found[:-1]

    def _search(
        self, pcm: npt.NDArray[np.int16], rate_hz: int, *, whole: bool
    ) -> Iterator[tuple[float, float]]:
        decoder, length_s = self._decoder, pcm.size / rate_hz
        padded = np.pad(pcm, (round(_PADDING_S * rate_hz), round(_PADDING_S * rate_hz) if whole else 0))
        decoder.start_utt()
        decoder.process_raw(soxr.resample(padded, rate_hz, _RATE_HZ).tobytes(), full_utt=True)
        # Only an ended search insists on all words.
        segments = None if whole else list(decoder.seg() or ())
        decoder.end_utt()
        for segment in decoder.seg() or () if segments is None else segments:
            if segment.word[0] not in "<[(":  # silence and noise
                times_s = (segment.start_frame / _FRAMES_PER_S, (segment.end_frame + 1) / _FRAMES_PER_S)
                start_s, end_s = (min(max(0.0, time_s - _PADDING_S), length_s) for time_s in times_s)
                yield start_s, end_s

    def _name(self, word: str) -> str:
        """The word, or what it is called in the dictionary."""
        if self._decoder.lookup_word(word) is not None:
            return word
        if word not in self._guessed:
            name = f"guessed{len(self._guessed)}"
            sounds = (self._pronunciation(part) or _letters(part) for part in _PARTS.findall(word))
            self._decoder.add_word(name, " ".join(sounds), update=True)
            self._guessed[word] = name
        return self._guessed[word]

    def _pronunciation(self, part: str) -> str | None:
        found: str | None = self._decoder.lookup_word(_DIGITS[int(part)] if part.isdigit() else part)
        return found


def _spelled(word: str) -> str:
    """Lower case, without accents, in the letters of the dictionary."""
    plain = unicodedata.normalize("NFKD", word.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")).lower()
    return "".join(char for char in plain if not unicodedata.combining(char))


def _letters(part: str) -> str:
    return " ".join(_LETTERS[char] for char in part if char in _LETTERS)
