"""Streaming text-to-speech over a WebSocket, in a cloned voice.

In: text from clients. Out: speech, while it is still being generated. Does not know: who the clients are.

Importing this package imports nothing heavy. Start from :mod:`makima_tts.factory` (a service),
:mod:`makima_tts.client` (a client) or :mod:`makima_tts.speech` (what an engine is).
"""

__version__ = "0.1.0"
