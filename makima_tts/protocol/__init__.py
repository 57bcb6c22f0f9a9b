"""The protocol on the wire, as docs/protocol.md specifies it: messages, their limits, parse and serialize.

In: text frames. Out: typed client messages; typed server messages and their JSON. Does not know: sessions,
engines, sockets, clocks.
"""

from makima_tts.protocol.asyncapi import asyncapi_document as asyncapi_document
from makima_tts.protocol.languages import (
    AUTO as AUTO,
    LANGUAGES as LANGUAGES,
    language_name as language_name,
    language_tag as language_tag,
)
from makima_tts.protocol.messages import (
    SAMPLE_RATES_HZ as SAMPLE_RATES_HZ,
    AudioChunkMessage as AudioChunkMessage,
    AudioEnd as AudioEnd,
    AudioFormat as AudioFormat,
    Cancel as Cancel,
    Capabilities as Capabilities,
    ClientMessage as ClientMessage,
    Complete as Complete,
    Encoding as Encoding,
    ErrorMessage as ErrorMessage,
    Flush as Flush,
    Interrupted as Interrupted,
    Limits as Limits,
    Loading as Loading,
    Ping as Ping,
    Pong as Pong,
    PriorityName as PriorityName,
    Ready as Ready,
    ReadyLimits as ReadyLimits,
    Sentence as Sentence,
    ServerMessage as ServerMessage,
    Speak as Speak,
    Speaking as Speaking,
    Start as Start,
    Started as Started,
    Stop as Stop,
    Stopped as Stopped,
    TimedWord as TimedWord,
    Timings as Timings,
    Transport as Transport,
    Words as Words,
    parse_client_message as parse_client_message,
    parse_server_message as parse_server_message,
    serialize as serialize,
)

PROTOCOL_VERSION = 1
SUBPROTOCOL = "makima.tts.v1"
