"""Generates the narrator's reference clip; the result is reproducible bit for bit.

In: the transcript in voices/narrator/manifest.json. Out: voices/narrator/reference.wav, 24 kHz mono 16 bit.
Needs the preview engine's package: ``pip install -e .[preview]``.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from hibari import SAMPLE_RATE, Hibari

FOLDER = Path(__file__).resolve().parent.parent / "voices" / "narrator"
SEED = 7
# A longer silence at the end keeps the end of the clip out of later speech.
SILENCE_SAMPLES = (SAMPLE_RATE // 4, SAMPLE_RATE // 2)
AUDIBLE = 0.01
PEAK = 0.7


def without_silence(pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32 [n] → the part from the first to the last audible sample."""
    audible = np.flatnonzero(np.abs(pcm) > AUDIBLE)
    return pcm[audible[0] : audible[-1] + 1]


def main() -> None:
    """Speak the transcript, normalize its level, and add silence at both ends."""
    transcript = json.loads((FOLDER / "manifest.json").read_text())["transcript"]
    speech = without_silence(Hibari(voice="heart")(transcript, seed=SEED))
    clip = np.pad(speech * (PEAK / np.abs(speech).max()), SILENCE_SAMPLES)
    soundfile.write(FOLDER / "reference.wav", clip, SAMPLE_RATE, subtype="PCM_16")
    print(f"{clip.size / SAMPLE_RATE:.1f} s")


if __name__ == "__main__":
    main()
