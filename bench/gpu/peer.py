"""The package faster-qwen3-tts on the same checkpoint, with the same voice and texts, without a socket.

In: a checkpoint, a device. Out: lines of JSON: figures, or why there are none; the time to first sound and
the real-time factor of each utterance, by the size of chunks; ``{}`` at the end. Does not know: our model. It
runs with the peer's own packages, so it imports nothing of ours but the texts and the voice.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.voice import FIVE_SECONDS, LANGUAGE, LONG_TRANSCRIPT, clip_file

# Twice as much as the text needs.
_MAX_FRAMES = 128
_CHUNKS_FRAMES = (1, 4, 12)
_RUNS = 10

# An utterance in chunks of so many frames: samples, their rate, the peer's own measurements.
Speak = Callable[[int], Iterator[tuple[Any, int, Any]]]


def load(checkpoint: str, device: str, clip: Path) -> Speak:
    """It captures its graphs in the first utterance."""
    model = import_module("faster_qwen3_tts").FasterQwen3TTS.from_pretrained(
        checkpoint, device=device, dtype="bfloat16", local_files_only=True
    )

    def speak(chunk_frames: int) -> Iterator[tuple[Any, int, Any]]:
        chunks: Iterator[tuple[Any, int, Any]] = model.generate_voice_clone_streaming(
            FIVE_SECONDS,
            LANGUAGE,
            ref_audio=str(clip),
            ref_text=LONG_TRANSCRIPT,
            max_new_tokens=_MAX_FRAMES,
            chunk_size=chunk_frames,
        )
        return chunks

    return speak


def timed(speak: Speak, chunk_frames: int) -> dict[str, float]:
    """One utterance, to its end."""
    began_s, first_s, audio_s = time.perf_counter(), 0.0, 0.0
    for samples, rate_hz, _ in speak(chunk_frames):
        audio_s += len(samples) / rate_hz
        first_s = first_s or time.perf_counter() - began_s
    took_s = time.perf_counter() - began_s
    return {"ttfa_ms": first_s * 1e3, "audio_s": audio_s, "rtf": took_s / audio_s}


def measurements(checkpoint: str, device: str, clip: Path) -> Iterator[dict[str, Any]]:
    began_s = time.perf_counter()
    try:
        speak = load(checkpoint, device, clip)
    except (ImportError, ValueError, RuntimeError, OSError, AttributeError, TypeError) as error:
        # What the peer lacks here is reported, and is no failure of ours.
        yield {"peer, not measured": f"{type(error).__name__}: {error}"[:300]}
        return
    yield {"peer": version("faster-qwen3-tts"), "peer, loading, s": time.perf_counter() - began_s}
    yield from utterances(speak, _RUNS)


def utterances(speak: Speak, runs: int) -> Iterator[dict[str, Any]]:
    timed(speak, _CHUNKS_FRAMES[0])  # warm-up
    for chunk_frames in _CHUNKS_FRAMES:
        heard = [timed(speak, chunk_frames) for _ in range(runs)]
        yield {"chunk_frames": chunk_frames, "utterances": heard}


def main(checkpoint: str, device: str) -> None:
    # Libraries print to stdout when they are imported; only measurements go there.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as lines, tempfile.TemporaryDirectory() as folder:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        clip = Path(folder) / "reference.wav"
        clip.write_bytes(clip_file())
        for found in measurements(checkpoint, device, clip):
            print(json.dumps(found), file=lines, flush=True)
        print("{}", file=lines, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
