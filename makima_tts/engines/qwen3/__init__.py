"""Qwen3-TTS, when things run: many utterances in one batch on one thread.

In: utterances and voices. Out: streams of sound. Does not know: who listens, sessions, how the model
computes.
Importing it imports no torch: that happens when the engine starts.
"""

from makima_tts.engines.qwen3.admission import AdmissionRule
from makima_tts.engines.qwen3.engine import ModelChoice, Qwen3Engine
from makima_tts.engines.qwen3.manner import FrameWatcher, Manner

__all__ = ["AdmissionRule", "FrameWatcher", "Manner", "ModelChoice", "Qwen3Engine"]
