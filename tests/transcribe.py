"""A small speech recognizer, whose package includes its weights, and the word error rate."""

import re
from functools import cache

import numpy as np
import numpy.typing as npt
from moonshine_voice import ModelArch, Transcriber, get_model_path

# The recognizer misses words at the edges of a clip that begins or ends abruptly.
PADDING_S = 0.3


@cache
def _recognizer() -> Transcriber:
    return Transcriber(get_model_path("tiny-en"), ModelArch.TINY)


def transcribe(pcm: npt.NDArray[np.float32], sample_rate_hz: int) -> str:
    """float32 [samples], mono, in -1…1, at any rate → the English words in it."""
    padded = np.pad(pcm, int(PADDING_S * sample_rate_hz))
    heard = _recognizer().transcribe_without_streaming(padded.tolist(), sample_rate_hz)
    return " ".join(line.text for line in heard.lines)


def words(text: str) -> list[str]:
    """Lower case, without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def word_errors(reference: str, hypothesis: str) -> int:
    """The fewest words to insert, delete or replace (Levenshtein)."""
    heard = words(hypothesis)
    distances = list(range(len(heard) + 1))
    for row, meant in enumerate(words(reference), 1):
        diagonal, distances[0] = distances[0], row
        for column, word in enumerate(heard, 1):
            cheapest = min(distances[column] + 1, distances[column - 1] + 1, diagonal + (word != meant))
            diagonal, distances[column] = distances[column], cheapest
    return distances[-1]


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Word errors per word of the reference."""
    return word_errors(reference, hypothesis) / len(words(reference))
