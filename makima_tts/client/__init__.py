"""The Python client: text in, speech out, over a WebSocket.

In: a service's address, the requested session (the protocol's ``Start``) and text, whole or still being
written. Out: PCM as it arrives, in a file or through the loudspeaker, with measurements. Does not know:
anything of the service but the protocol.

    async with SpeechClient.connect("ws://127.0.0.1:8001/api/v1/speak", Start(voice="makima")) as client:
        await client.speak("Hello.").save("hello.wav")
        async for chunk in client.speak(tokens()):
            send_on(chunk.pcm)
"""

from makima_tts.client.blocking import (
    BlockingSpeech as BlockingSpeech,
    BlockingSpeechClient as BlockingSpeechClient,
)
from makima_tts.client.connection import Reconnects as Reconnects
from makima_tts.client.conversation import SpeakOptions as SpeakOptions, SpeechClient as SpeechClient
from makima_tts.client.failures import (
    ClientError as ClientError,
    ConnectionLost as ConnectionLost,
    PlayerUnavailable as PlayerUnavailable,
    ServiceError as ServiceError,
    ServiceUnreachable as ServiceUnreachable,
    UtteranceCancelled as UtteranceCancelled,
)
from makima_tts.client.playing import Player as Player
from makima_tts.client.speech import Heard as Heard, Speech as Speech, SpeechChunk as SpeechChunk
from makima_tts.client.writing import Text as Text
