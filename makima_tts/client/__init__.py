"""The Python client: text in, speech out, over one WebSocket.

In: a service's address, the session asked for (the protocol's ``Start``) and text, whole or still being
written. Out: PCM as it arrives, with its measurements. Does not know: anything of ours but the language on
the wire.

    async with SpeechClient.connect("ws://127.0.0.1:8001/api/v1/speak", Start(voice="makima")) as client:
        async for chunk in client.speak("Hello."):
            play(chunk.pcm)
"""

from makima_tts.client.blocking import BlockingSpeech, BlockingSpeechClient
from makima_tts.client.connection import SpeakOptions, SpeechClient
from makima_tts.client.failures import (
    ClientError,
    ConnectionLost,
    ServiceError,
    ServiceUnreachable,
    UtteranceCancelled,
)
from makima_tts.client.speech import Speech, SpeechChunk
from makima_tts.client.writing import Text

__all__ = [
    "BlockingSpeech",
    "BlockingSpeechClient",
    "ClientError",
    "ConnectionLost",
    "ServiceError",
    "ServiceUnreachable",
    "SpeakOptions",
    "Speech",
    "SpeechChunk",
    "SpeechClient",
    "Text",
    "UtteranceCancelled",
]
