"""Measurements: the service's own cost (``service``), load on a server (``load``), Qwen3-TTS alone and in a
server, beside the reference package (``compare``), what a precision changes (``precision``).
"""
