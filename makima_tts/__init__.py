"""makima-tts: text in over a WebSocket, speech in a cloned voice out while it is still being generated.

Importing this package imports nothing heavy; start from :mod:`makima_tts.factory` (a service),
:mod:`makima_tts.client` (a client) or :mod:`makima_tts.speech` (what an engine is).
"""

__version__ = "0.1.0"
