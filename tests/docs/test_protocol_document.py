"""docs/protocol.md matches the code."""

from typing import get_args

import pytest

from makima_tts import errors
from makima_tts.protocol.messages import Cancel, Flush, Ping, ServerMessage, Speak, Start, Stop
from scripts.protocol_docs import DOCUMENT, rendered

TEXT = DOCUMENT.read_text()


def test_generated_parts_are_current() -> None:
    assert rendered(TEXT) == TEXT, "run `make docs`"


@pytest.mark.parametrize("message", [Start, Speak, Flush, Cancel, Stop, Ping])
def test_every_client_message_and_field_is_documented(message: type[Start]) -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{message.__name__.lower()}` |"))
    fields = [field.alias or name for name, field in message.model_fields.items() if name != "type"]
    assert [name for name in fields if f"`{name}`" not in row] == []


def test_every_server_message_is_documented() -> None:
    types = [message.model_fields["type"].default for message in get_args(ServerMessage)]
    assert [name for name in types if f"`{name}`" not in TEXT] == []
    assert len(types) >= 11


def test_every_wire_code_is_documented_with_its_status() -> None:
    http_only = {
        errors.Forbidden,
        errors.UpgradeRequired,
        errors.Conflict,
        errors.InvalidClip,
        errors.PayloadTooLarge,
    }
    for error in set(errors.TtsError.__subclasses__()) - http_only:
        row = f"| `{error.code}` | {error.http_status} | {'yes' if error.recoverable else 'no'} |"
        assert row in TEXT, row
