"""Text frames as JSON, and well-formed text of their strings.

In: frames; strings that may hold halves of surrogate pairs. Out: JSON values; text. Does not know: messages.

Languages whose strings are UTF-16 split a text within a pair, and JSON has an escape for each half. So two
frames together may hold one character, which neither of them holds.
"""

import json
import math
from codecs import getincrementaldecoder

from makima_tts.errors import InvalidMessage

# More digits than any field allows. Python refuses to parse thousands of them.
_MAX_DIGITS = 20


class SurrogateJoiner:
    """Joins halves over the parts of one text. A half without its other one becomes U+FFFD."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-16-le")("replace")

    def feed(self, text: str) -> str:
        """The part as text; a first half at its end is held for the next part."""
        return self._decoder.decode(text.encode("utf-16-le", "surrogatepass"))

    def end(self) -> str:
        """What is still held."""
        return self._decoder.decode(b"", final=True)


def well_formed(text: str) -> str:
    """A whole text, with the halves in it joined or replaced."""
    if text.isascii():  # a recording in base64 has millions of characters
        return text
    joiner = SurrogateJoiner()
    return joiner.feed(text) + joiner.end()


def read_json(frame: str) -> object:
    """Its strings may hold halves of pairs, its numbers may be NaN or infinite. Raises InvalidMessage."""
    try:
        return json.loads(frame, parse_int=_number)
    except (ValueError, RecursionError):
        raise InvalidMessage("Not JSON; send one JSON object per text frame.") from None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf
