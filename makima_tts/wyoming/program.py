"""What a service can do, as Wyoming clients read it.

In: the address of a service's WebSocket. Out: its voices and their languages, as ``Info``. Does not know: who
asks.
"""

import asyncio
import http.client
from urllib.parse import urlsplit

from pydantic import BaseModel
from wyoming.info import Attribution, Info, TtsProgram, TtsVoice

from makima_tts import __version__
from makima_tts.client import ServiceUnreachable
from makima_tts.protocol import Ready, language_tag

_HTTP_TIMEOUT_S = 5.0
_OURS = Attribution("makima-tts", "")


class _Voice(BaseModel):
    """Of ``GET /api/v1/voices``."""

    id: str
    name: str
    available: bool


class _Voices(BaseModel):
    voices: list[_Voice]


async def describe(url: str, facts: Ready) -> Info:
    """Raises ServiceUnreachable."""
    tags = [language_tag(name) for name in facts.capabilities.languages]
    voices = [
        TtsVoice(voice.id, _OURS, True, voice.name, None, tags)
        for voice in await asyncio.to_thread(_voices, url)
        if voice.available
    ]
    words = f"Streaming speech by {facts.model}"
    return Info(tts=[TtsProgram("makima-tts", _OURS, True, words, __version__, voices, True)])


def _voices(url: str) -> list[_Voice]:
    where = urlsplit(url)
    secure = where.scheme == "wss"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = connect(where.hostname or "", where.port, timeout=_HTTP_TIMEOUT_S)
    try:
        connection.request("GET", where.path.removesuffix("/speak") + "/voices")
        return _Voices.model_validate_json(connection.getresponse().read()).voices
    except (OSError, http.client.HTTPException, ValueError) as failure:
        raise ServiceUnreachable("The service did not say which voices it has.") from failure
    finally:
        connection.close()
