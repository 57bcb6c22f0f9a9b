"""Stands in for torchaudio, which the qwen-tts package imports for a codec that its newer models lack."""
