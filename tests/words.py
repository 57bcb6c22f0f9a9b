"""A text as its writer's words come: in parts that are cut wherever a piece may be.

In: a text, a tokenizer. Out: its parts; their ids, one after the other. Does not know: what is tested.
"""

from itertools import pairwise

from makima_tts.model.tokenizer import TextTokenizer
from makima_tts.text.segmenter import ends_word


def words_of(text: str) -> list[str]:
    """All parts that there can be; put together, they are the text."""
    places = [place for place in range(1, len(text)) if ends_word(text, place)]
    return [text[start:end] for start, end in pairwise([0, *places, len(text)])]


def ids_of_words(tokenizer: TextTokenizer, text: str) -> list[int]:
    first, *others = words_of(text)
    ids = tokenizer.encode(first)
    return ids + [number for word in others for number in tokenizer.encode_continuation(word)]
