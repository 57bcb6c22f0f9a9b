"""Measurements: the service's own cost (``service``), load on a server (``load``), Qwen3-TTS and a server with
it beside the reference package (``compare``), what a precision changes (``precision``).
"""
