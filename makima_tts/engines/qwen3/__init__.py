"""Qwen3-TTS, as an engine: many utterances in one batch on one thread.

In: utterances and voices. Out: streams of sound. Does not know: who listens, sessions, how the model
computes. Importing it does not import torch: that happens when the engine starts.
"""

from makima_tts.engines.qwen3.engine import ModelChoice, Qwen3Engine
from makima_tts.engines.qwen3.scheduler import AdmissionRule
from makima_tts.engines.qwen3.utterance import FrameWatcher, SynthesisOptions

__all__ = ["AdmissionRule", "FrameWatcher", "ModelChoice", "Qwen3Engine", "SynthesisOptions"]
