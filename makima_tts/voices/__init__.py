"""Voices: on disk, encoded once, cached.

In: ids that clients ask for, uploaded clips. Out: prompts for an engine. Does not know: sessions, HTTP.
"""

from makima_tts.voices.library import VoiceLibrary
from makima_tts.voices.manager import NARRATOR, ResolvedVoice, VoiceListing, VoiceManager
from makima_tts.voices.manifest import VoiceUpload

__all__ = ["NARRATOR", "ResolvedVoice", "VoiceLibrary", "VoiceListing", "VoiceManager", "VoiceUpload"]
