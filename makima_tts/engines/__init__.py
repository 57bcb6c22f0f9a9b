"""The engines besides Qwen3-TTS, each behind the same SpeechEngine protocol.

In: utterances and voices. Out: streams of sound. Does not know: who listens, which engine was chosen. An
engine's own packages are imported when it starts: importing these modules is light.
"""

from makima_tts.engines.official import OfficialEngine
from makima_tts.engines.preview import PreviewEngine
from makima_tts.engines.scripted import ScriptedEngine

__all__ = ["OfficialEngine", "PreviewEngine", "ScriptedEngine"]
