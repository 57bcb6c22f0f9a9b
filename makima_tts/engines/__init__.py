"""Every engine, each behind the SpeechEngine protocol: qwen3, preview, official, scripted.

In: utterances and voices. Out: streams of sound. Does not know: who listens, which engine was chosen. The
packages that an engine needs are imported when it starts: importing these modules is light.
"""

from makima_tts.engines.official import OfficialEngine, OfficialModel
from makima_tts.engines.preview import PreviewEngine
from makima_tts.engines.scripted import ScriptedEngine

__all__ = ["OfficialEngine", "OfficialModel", "PreviewEngine", "ScriptedEngine"]
