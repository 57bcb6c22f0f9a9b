"""The protocol on the wire, as docs/protocol.md specifies it: messages, their limits, parse and serialize.

In: text frames. Out: typed client messages; typed server messages and their JSON. Does not know: sessions,
engines, sockets, clocks.
"""

from makima_tts.protocol.asyncapi import asyncapi_document
from makima_tts.protocol.client_messages import (
    Cancel,
    ClientMessage,
    Flush,
    Ping,
    Speak,
    Start,
    Stop,
    parse_client_message,
)
from makima_tts.protocol.formats import (
    SAMPLE_RATES_HZ,
    AudioFormat,
    Encoding,
    Limits,
    PriorityName,
    Transport,
)
from makima_tts.protocol.languages import AUTO, LANGUAGES, language_name, language_tag
from makima_tts.protocol.server_messages import (
    AudioChunkMessage,
    AudioEnd,
    Capabilities,
    Complete,
    ErrorMessage,
    Interrupted,
    Loading,
    Pong,
    Ready,
    ReadyLimits,
    Sentence,
    ServerMessage,
    Speaking,
    Started,
    Stopped,
    parse_server_message,
    serialize,
)

PROTOCOL_VERSION = 1
SUBPROTOCOL = "makima.tts.v1"

__all__ = [
    "AUTO",
    "LANGUAGES",
    "PROTOCOL_VERSION",
    "SAMPLE_RATES_HZ",
    "SUBPROTOCOL",
    "AudioChunkMessage",
    "AudioEnd",
    "AudioFormat",
    "Cancel",
    "Capabilities",
    "ClientMessage",
    "Complete",
    "Encoding",
    "ErrorMessage",
    "Flush",
    "Interrupted",
    "Limits",
    "Loading",
    "Ping",
    "Pong",
    "PriorityName",
    "Ready",
    "ReadyLimits",
    "Sentence",
    "ServerMessage",
    "Speak",
    "Speaking",
    "Start",
    "Started",
    "Stop",
    "Stopped",
    "Transport",
    "asyncapi_document",
    "language_name",
    "language_tag",
    "parse_client_message",
    "parse_server_message",
    "serialize",
]
