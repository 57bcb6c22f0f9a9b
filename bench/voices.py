"""The voice that speaks in measurements, as a folder of voices.

In: a folder. Out: a voice in it. Does not know: who speaks with it.
"""

import json
from io import BytesIO
from pathlib import Path

import soundfile

from bench import spoken
from makima_tts.speech import CloneMode

VOICE = "measured"


def clip_file() -> bytes:
    """What is cloned, as a WAV file."""
    written = BytesIO()
    soundfile.write(written, spoken.clip(), spoken.SAMPLE_RATE_HZ, format="WAV")
    return written.getvalue()


def write_voice(
    folder: Path, voice: str = VOICE, transcript: str = spoken.TRANSCRIPT, *, mode: CloneMode = "icl"
) -> Path:
    """Cloned from a clip of six seconds. Returns ``folder``."""
    place = folder / voice
    place.mkdir(parents=True)
    (place / "reference.wav").write_bytes(clip_file())
    manifest = {
        "id": voice,
        "reference_audio": "reference.wav",
        "transcript": transcript,
        "language": spoken.LANGUAGE,
        "mode": mode,
    }
    (place / "manifest.json").write_text(json.dumps(manifest))
    return folder
