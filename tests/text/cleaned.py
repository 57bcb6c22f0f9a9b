"""Texts as spoken, fed in parts."""

from itertools import pairwise

from makima_tts.text import Piece, Segmenter, TextCleaning
from makima_tts.text.cleaning import TextCleaner
from makima_tts.text.segmenter import cleaner_of


def a_cleaner(cleaning: TextCleaning = "markdown") -> TextCleaner:
    return cleaner_of(cleaning)


def spoken_in_parts(*parts: str, cleaning: TextCleaning = "markdown") -> tuple[str, list[int]]:
    """The text as spoken, and where each of its characters begins in the text as received."""
    cleaner, text, starts = a_cleaner(cleaning), "", list[int]()
    for spoken in (*map(cleaner.feed, parts), cleaner.flush()):
        text += spoken.text
        starts += spoken.starts
    return text, starts


def spoken(text: str) -> str:
    """As spoken, whole and character by character; the white space at its ends does not matter."""
    whole = spoken_in_parts(text)
    assert spoken_in_parts(*text) == whole
    return whole[0].strip()


def pieces_in_parts(*parts: str) -> list[Piece]:
    segmenter = Segmenter()
    return [piece for part in parts for piece in segmenter.feed(part)] + segmenter.flush()


def split(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]
