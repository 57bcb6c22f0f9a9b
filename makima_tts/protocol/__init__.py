"""The protocol on the wire, as docs/protocol.md specifies it: messages, their limits, parse and serialize.

In: text frames. Out: typed client messages; typed server messages and their JSON. Does not know: sessions,
engines, sockets, clocks.
"""

from makima_tts.protocol.asyncapi import asyncapi_document as asyncapi_document
from makima_tts.protocol.client_messages import (
    Cancel as Cancel,
    ClientMessage as ClientMessage,
    Flush as Flush,
    Ping as Ping,
    Speak as Speak,
    Start as Start,
    Stop as Stop,
    parse_client_message as parse_client_message,
)
from makima_tts.protocol.formats import (
    SAMPLE_RATES_HZ as SAMPLE_RATES_HZ,
    AudioFormat as AudioFormat,
    Encoding as Encoding,
    Limits as Limits,
    PriorityName as PriorityName,
    Transport as Transport,
)
from makima_tts.protocol.languages import (
    AUTO as AUTO,
    LANGUAGES as LANGUAGES,
    language_name as language_name,
    language_tag as language_tag,
)
from makima_tts.protocol.server_messages import (
    AudioChunkMessage as AudioChunkMessage,
    AudioEnd as AudioEnd,
    Capabilities as Capabilities,
    Complete as Complete,
    ErrorMessage as ErrorMessage,
    Interrupted as Interrupted,
    Loading as Loading,
    Pong as Pong,
    Ready as Ready,
    ReadyLimits as ReadyLimits,
    Sentence as Sentence,
    ServerMessage as ServerMessage,
    Speaking as Speaking,
    Started as Started,
    Stopped as Stopped,
    parse_server_message as parse_server_message,
    serialize as serialize,
)

PROTOCOL_VERSION = 1
SUBPROTOCOL = "makima.tts.v1"
