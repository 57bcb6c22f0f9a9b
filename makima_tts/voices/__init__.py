"""Who speaks: voices on disk, encoded once and kept.

In: ids that clients ask for, clips that they send. Out: prompts for an engine. Does not know: sessions, HTTP.
"""

from makima_tts.voices.library import VoiceLibrary
from makima_tts.voices.manager import NARRATOR, ResolvedVoice, VoiceListing, VoiceManager
from makima_tts.voices.uploads import VoiceUpload

__all__ = ["NARRATOR", "ResolvedVoice", "VoiceLibrary", "VoiceListing", "VoiceManager", "VoiceUpload"]
