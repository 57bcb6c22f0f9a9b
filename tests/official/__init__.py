"""Tests of the qwen-tts engine, in the environment of its package."""
