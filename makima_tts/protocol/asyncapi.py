"""The WebSocket as an AsyncAPI document, generated from the models that parse and write its messages.

In: the version of the service. Out: the document as plain values. Does not know: where it is served.

AsyncAPI 3 (https://www.asyncapi.com/docs/reference/specification/v3.0.0) describes an application: ours
*receives* messages from clients and *sends* messages from the server.
"""

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from makima_tts.protocol.messages import (
    BaseMessage,
    ClientMessage,
    ExtendedMessage,
    RequestedMessage,
)

ADDRESS = "/api/v1/speak"
_SCHEMAS = "#/components/schemas/"
_CHANNEL = "#/channels/speak"

_CLIENT: tuple[type[BaseModel], ...] = get_args(ClientMessage)
_BASE: tuple[type[BaseModel], ...] = get_args(BaseMessage)
_EXTENDED: tuple[type[BaseModel], ...] = get_args(ExtendedMessage)
_REQUESTED: tuple[type[BaseModel], ...] = (RequestedMessage,)
_ALL = (*_CLIENT, *_BASE, *_EXTENDED, *_REQUESTED)
_AUDIO = "audio"

_DESCRIPTION = (
    "Text in, speech out while it is still being generated. JSON text frames are control, binary frames are "
    "audio. Fields are camelCase, null means absent, unknown fields are ignored. docs/protocol.md in the "
    "source specifies every reply."
)
_EXTENDED_SET = "For clients that offer the subprotocol makima.tts.v1 or send `start` with `events: true`."


def asyncapi_document(version: str) -> dict[str, Any]:
    names = [*map(_name, _ALL), _AUDIO]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "makima-tts",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:8001", "protocol": "ws"}},
        "channels": {
            "speak": {
                "address": ADDRESS,
                "title": "One session",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            }
        },
        "operations": {
            "hear": _operation("receive", "Messages from clients.", map(_name, _CLIENT)),
            "answer": _operation("send", "The base set.", [*map(_name, _BASE), _AUDIO]),
            "tell": _operation("send", _EXTENDED_SET, map(_name, _EXTENDED)),
            "time": _operation("send", "For clients that asked for `timings`.", map(_name, _REQUESTED)),
        },
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _name(message: type[BaseModel]) -> str:
    return str(message.model_fields["type"].default)


def _operation(action: str, summary: str, names: Iterable[str]) -> dict[str, Any]:
    messages = [{"$ref": f"{_CHANNEL}/messages/{name}"} for name in names]
    return {"action": action, "summary": summary, "channel": {"$ref": _CHANNEL}, "messages": messages}


def _messages() -> dict[str, Any]:
    described = {
        _name(message): {
            "name": _name(message),
            "summary": (message.__doc__ or "").strip(),
            "payload": {"$ref": f"{_SCHEMAS}{message.__name__}"},
        }
        for message in _ALL
    }
    return {
        **described,
        _AUDIO: {
            "name": _AUDIO,
            "summary": "A binary frame: mono samples, whole ones, in the rate and encoding of the session.",
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary"},
        },
    }


def _schemas() -> dict[str, Any]:
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (message, "validation" if message in _CLIENT else "serialization") for message in _ALL
    ]
    _, generated = models_json_schema(modes, by_alias=True, ref_template=_SCHEMAS + "{model}")
    schemas: dict[str, Any] = generated["$defs"]
    for message in _ALL:
        schemas[message.__name__]["required"] = _required(message)
    for message in _CLIENT:
        _allow_null(schemas[message.__name__])
    return schemas


def _required(message: type[BaseModel]) -> list[str]:
    """``type`` is always required: it tells messages apart, though our models have a default for it."""
    fields = message.model_fields.items()
    return ["type", *(field.alias or name for name, field in fields if field.is_required())]


def _allow_null(schema: dict[str, Any]) -> None:
    """From a client, null means absent."""
    for name, field in schema["properties"].items():
        if name not in schema["required"] and "anyOf" not in field:
            variant = {key: field.pop(key) for key in tuple(field) if key not in ("default", "title")}
            field["anyOf"] = [variant, {"type": "null"}]
