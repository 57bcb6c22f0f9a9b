"""Tests of the qwen-tts backend, in the environment that has the package."""
