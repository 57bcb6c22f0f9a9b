"""The fields of JSON objects, as clients send them.

In: text frames; the fields of one request. Out: JSON values and well-formed text; the fields, of which absent
ones are left out, numbers and words as the model has them. What a field cannot hold is left for its own
validation. Does not know: which request or message it is.

Languages whose strings are UTF-16 split a text within a surrogate pair, and JSON has an escape for each half.
So two frames together may hold one character, which neither of them holds.
"""

import json
import math
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from makima_tts.errors import InvalidMessage

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,20}(\.[0-9]{0,20})?\s*")
_TRUTHS = {"true": True, "false": False}
# Other usual names of formats and encodings.
_OTHER_WORDS = {"ogg": "opus", "ulaw": "mulaw", "g711_ulaw": "mulaw", "g711_alaw": "alaw"}


@dataclass(frozen=True, slots=True)
class _FieldKind:
    """What the values of a field are. ``words``: its choices, by their lower case."""

    number: bool
    truth: bool
    words: dict[str, str]

    @classmethod
    def of(cls, field: FieldInfo) -> Self:
        parts = set(_parts(field.annotation))
        words = {part.lower(): part for part in parts if isinstance(part, str)}
        known = {word: words[other] for word, other in _OTHER_WORDS.items() if other in words}
        free = str in parts
        return cls(
            number=not free and bool({int, float} & parts),
            truth=not free and bool({bool, False, True} & parts),
            words={} if free else known | words,
        )

    def read(self, value: Any) -> Any:
        if isinstance(value, str):
            word = value.strip().lower()
            if self.number and _NUMBER.fullmatch(value):
                value = float(value) if "." in value else int(value)
            elif self.truth:
                return _TRUTHS.get(word, value)
            else:
                return self.words.get(word, value)
        return int(value) if self.number and isinstance(value, float) and value.is_integer() else value


def _parts(annotation: Any) -> Iterator[Any]:
    """The types of a union, and the choices of a Literal."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from parts
    elif origin is Annotated:
        yield from _parts(parts[0])
    elif origin not in (None, list, dict, tuple):
        yield from chain.from_iterable(map(_parts, parts))
    else:
        yield annotation


@cache
def _kinds_of(model: type[BaseModel]) -> dict[str, _FieldKind]:
    """By every name under which a field may be sent."""
    fields = model.model_fields.items()
    return {key: _FieldKind.of(field) for name, field in fields for key in (name, field.alias) if key}


class ClientFields(BaseModel):
    """The fields of a request: camelCase, strict; null and "" mean absent, unknown fields are ignored.

    A number may be a string, and a choice may have any case. Strings are well-formed, but for a text: a later
    part of it may complete the character at its end.
    """

    # These say something even when they are empty.
    as_sent: ClassVar[tuple[str, ...]] = ("text", "input")

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        kinds = _kinds_of(cls)
        read = {
            name: kinds[name].read(value) if name in kinds else value
            for name, value in fields.items()
            if value is not None and (name in cls.as_sent or not _is_blank(value))
        }
        strings = {name: well_formed(value) for name, value in read.items() if isinstance(value, str)}
        return {**read, **{name: value for name, value in strings.items() if name not in cls.as_sent}}


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.isspace())


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
