"""The texts of measurements, and the voice that speaks them: the same everywhere.

In: nothing. Out: texts, a clip, a folder of voices. Does not know: models. It imports nothing of ours, since
the environments of the reference and of the peer have other packages.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import soundfile

VOICE = "measured"
LANGUAGE = "English"
SAMPLE_RATE_HZ = 24_000
CLIP_S = 6.0
# The tokenizer of random checkpoints writes a token for nearly every letter, so these are as many tokens as
# the clip has in words. The text has room for five seconds of speech.
TRANSCRIPT = "The harbour lay still."
TEXT = "Nobody spoke of boats."
# For checkpoints whose speech lasts as long as its text. Cloning reads the transcript and the clip's frames
# side by side. A transcript of as many tokens as the clip has frames leaves the whole text to be read a token
# a frame, and speech ends with it.
LONG_TRANSCRIPT = (
    "The harbour lay quite still, and nobody spoke of any boats that had not come back from sea."
)
SHORT = "The boats are back."
FIVE_SECONDS = "They had followed the wind, they said, because it was dark that night."
TWENTY_SECONDS = (
    f"{FIVE_SECONDS} Two of them came home by that same evening, with badly torn white sails. "
    "A third was seen by somebody about a week later, and far to the south. "
    "All but two of their men had by now waited on a quay for half a day."
)


def clip() -> npt.NDArray[np.float32]:
    """A hum with a hiss: float32 [samples], the same everywhere."""
    time_s = np.arange(round(CLIP_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    hiss = np.random.Generator(np.random.PCG64(0)).random(len(time_s)) - 0.5
    hum = np.sin(2 * np.pi * 140 * time_s) * np.sin(2 * np.pi * 2 * time_s)
    return (0.2 * hum + 0.1 * hiss).astype(np.float32)


def clip_file() -> bytes:
    """The clip as a WAV file."""
    written = BytesIO()
    soundfile.write(written, clip(), SAMPLE_RATE_HZ, format="WAV")
    return written.getvalue()


def write_voice(
    folder: Path,
    voice: str = VOICE,
    transcript: str = TRANSCRIPT,
    *,
    mode: Literal["icl", "xvector"] = "icl",
) -> Path:
    """A voice cloned from the clip, in a folder of voices. Returns ``folder``."""
    (folder / voice).mkdir(parents=True)
    (folder / voice / "reference.wav").write_bytes(clip_file())
    manifest = {
        "id": voice,
        "reference_audio": "reference.wav",
        "transcript": transcript,
        "language": LANGUAGE,
        "mode": mode,
    }
    (folder / voice / "manifest.json").write_text(json.dumps(manifest))
    return folder
