"""How much of a text was heard before it was silenced.

In: the text, where its sentences lie in the audio, how much of the audio was played. Out: the text in two
halves. Does not know: who plays, who silenced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from makima_tts.protocol import Sentence


@dataclass(frozen=True, slots=True)
class Heard:
    """``spoken + remaining`` is the text as far as it was written; cut between words."""

    spoken: str = field(repr=False)
    remaining: str = field(repr=False)


def heard_of(text: str, sentences: Sequence[Sentence], played_ms: int) -> Heard:
    """Of the sentence that was being played, as many whole words as its share of time."""
    end = 0
    for sentence in sentences:
        begin = max(end, text.find(sentence.text, end))
        length_ms = sentence.end_ms - sentence.start_ms
        if played_ms < sentence.end_ms:
            share = max(0.0, (played_ms - sentence.start_ms) / length_ms)
            end = _end_of_word(text, end, begin + int(share * len(sentence.text)))
            break
        end = begin + len(sentence.text)
    return Heard(text[:end], text[end:])


def _end_of_word(text: str, start: int, cut: int) -> int:
    """The end of the last word between these that is whole: half a word was not said."""
    words = text[start:cut]
    if text[cut : cut + 1].strip():
        words = words[: words.rfind(" ") + 1]
    return start + len(words.rstrip())
