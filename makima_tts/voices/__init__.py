"""Voices: on disk, encoded once, cached.

In: ids that clients ask for, uploaded clips. Out: prompts for an engine. Does not know: sessions, HTTP.
"""

from makima_tts.voices.inline import InlineClip as InlineClip
from makima_tts.voices.library import VoiceLibrary as VoiceLibrary, VoiceUpload as VoiceUpload
from makima_tts.voices.manager import (
    NARRATOR as NARRATOR,
    ResolvedVoice as ResolvedVoice,
    VoiceListing as VoiceListing,
    VoiceManager as VoiceManager,
)
