"""The package faster-qwen3-tts on the same checkpoint, with the same voice and texts.

In: a checkpoint. Out: its time to the first sound and its real-time factor, in its own process, without a
socket; or why there are none. Does not know: our model. It runs with the peer's own packages, so it imports
nothing of ours but what is said.

It speaks one utterance at a time. Its first chunk may be a frame; what a larger one costs is the other row.
"""

import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import soundfile

from bench import spoken
from bench.gpu_findings import FIVE_SECONDS, TRANSCRIPT, Findings, Given, given
from bench.report import percentiles

# Speech ends with its text; this is twice as much as it says.
_MOST_FRAMES = 128
_CHUNKS_FRAMES = (1, 4, 12)
_REFERENCE = "reference.wav"

# Speaks, in chunks of so many frames: samples, their rate, what it measured itself.
Speak = Callable[[int], Iterator[tuple[Any, int, Any]]]


def speaker(given: Given) -> Speak:
    """Loaded, and its graphs captured when it first speaks."""
    model = import_module("faster_qwen3_tts").FasterQwen3TTS.from_pretrained(
        str(given.checkpoint), device=given.device, dtype="bfloat16", local_files_only=True
    )
    clip = clip_in(given.folder)

    def speak(chunk_frames: int) -> Iterator[tuple[Any, int, Any]]:
        chunks: Iterator[tuple[Any, int, Any]] = model.generate_voice_clone_streaming(
            FIVE_SECONDS,
            spoken.LANGUAGE,
            ref_audio=str(clip),
            ref_text=TRANSCRIPT,
            max_new_tokens=_MOST_FRAMES,
            chunk_size=chunk_frames,
        )
        return chunks

    return speak


def clip_in(folder: Path) -> Path:
    path = folder / _REFERENCE
    soundfile.write(path, spoken.clip(), spoken.SAMPLE_RATE_HZ)
    return path


def timed(speak: Speak, chunk_frames: int) -> dict[str, float]:
    """One utterance, to its end."""
    began_s, first_s, audio_s = time.perf_counter(), 0.0, 0.0
    for samples, rate_hz, _ in speak(chunk_frames):
        audio_s += len(samples) / rate_hz
        first_s = first_s or time.perf_counter() - began_s
    took_s = time.perf_counter() - began_s
    return {"ttfa_ms": first_s * 1e3, "audio_s": audio_s, "rtf": took_s / audio_s}


def measure_speech(speak: Speak, findings: Findings, runs: int) -> None:
    timed(speak, _CHUNKS_FRAMES[0])  # graphs are captured, the voice is encoded
    for chunk_frames in _CHUNKS_FRAMES:
        heard = [timed(speak, chunk_frames) for _ in range(runs)]
        row = {
            "chunk, frames": chunk_frames,
            "utterances": runs,
            **{
                f"TTFA {rank} ms": value
                for rank, value in percentiles([each["ttfa_ms"] for each in heard], 50, 95).items()
            },
            "RTF p50": percentiles([each["rtf"] for each in heard], 50)["p50"],
            "audio p50 s": percentiles([each["audio_s"] for each in heard], 50)["p50"],
        }
        findings.add_row("faster-qwen3-tts, one utterance at a time", row)
        for name in ("TTFA p50 ms", "TTFA p95 ms", "RTF p50"):
            findings.add({f"peer, chunks of {chunk_frames}, {name}": row[name]})


def measure(given: Given, findings: Findings) -> None:
    began_s = time.perf_counter()
    try:
        speak = speaker(given)
    except (ImportError, ValueError, RuntimeError, OSError, AttributeError, TypeError) as error:
        # Not ours to mend: what it wants that is not here is what is reported.
        findings.add({"peer, not measured": f"{type(error).__name__}: {error}"[:300]})
        return
    findings.add({"peer": version("faster-qwen3-tts"), "peer, loading, s": time.perf_counter() - began_s})
    measure_speech(speak, findings, 10)


if __name__ == "__main__":
    measure(*given(__doc__))
