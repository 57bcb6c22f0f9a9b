"""The real service around an engine that stamps its chunks.

In: TTS_* settings; ``--frames``, the length of a chunk. Out: the service's URL on stdout, and then the
service. Does not know: who listens.

The engine does no work: it hands over silence in real time, from a thread of its own as an engine on a GPU
does, and writes into each chunk when that was. Its utterances are not in step with each other.
"""

import argparse
import heapq
import itertools
import threading
import time

import numpy as np

from bench.stamps import write_stamp
from makima_tts import factory, logs
from makima_tts.errors import VoiceNotFound
from makima_tts.protocol import LANGUAGES
from makima_tts.server import process as server
from makima_tts.settings import load_settings
from makima_tts.speech import (
    AudioChunk,
    EngineFacts,
    EngineHealth,
    LoadProgress,
    ProgressReport,
    SpeechSink,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
)

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920
FACTS = EngineFacts(
    name="stamping",
    model="stamped silence",
    fingerprint="stamping-1",
    sample_rate_hz=SAMPLE_RATE_HZ,
    languages=LANGUAGES,
    cloning=False,
    text_streaming=True,
    note="Silence, with the time of its making in it.",
)


class StampingEngine:
    """A SpeechEngine whose every utterance goes on until it is cancelled."""

    def __init__(self, chunk_frames: int) -> None:
        self._chunk_samples = chunk_frames * FRAME_SAMPLES
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, SpeechSink]] = []
        self._order = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="stamping", daemon=True)

    @property
    def facts(self) -> EngineFacts:
        return FACTS

    async def start(self, report: ProgressReport) -> None:
        self._thread.start()
        report(LoadProgress("nothing to load", 1.0))

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        raise VoiceNotFound("This engine cannot clone voices.")

    def open(self, request: UtteranceRequest) -> SpeechStream:
        stream, sink = SpeechStream.create(buffer_samples=SAMPLE_RATE_HZ * 10)
        with self._changed:
            heapq.heappush(self._due, (time.monotonic(), next(self._order), sink))
            self._changed.notify()
        return stream

    def health(self) -> EngineHealth:
        return EngineHealth(alive=self._thread.is_alive(), active=len(self._due))

    async def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            due_s, order, sink = task
            if sink.cancelled:
                continue
            if sink.has_credit:
                self._put(sink)
            with self._changed:
                heapq.heappush(self._due, (due_s + self._chunk_samples / SAMPLE_RATE_HZ, order, sink))

    def _next(self) -> tuple[float, int, SpeechSink] | None:
        """Waits until a chunk of some utterance is due; None once closed."""
        with self._changed:
            while not self._closed:
                wait_s = self._due[0][0] - time.monotonic() if self._due else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self._due)
                self._changed.wait(wait_s)
        return None

    def _put(self, sink: SpeechSink) -> None:
        while sink.take_piece() is not None:
            pass
        pcm = np.zeros(self._chunk_samples, np.float32)
        write_stamp(pcm, time.monotonic_ns())
        sink.put(AudioChunk(pcm, piece_index=0))


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1, help="80 ms frames in a chunk")
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    service = factory.build_service(settings, StampingEngine(parser.parse_args().frames))
    server.run(
        factory.build_app(settings, service),
        service,
        host=settings.host,
        port=settings.port,
        stall_timeout_s=settings.stall_timeout_s,
        drain_timeout_s=settings.drain_timeout_s,
        on_listening=lambda url: print(url, flush=True),
    )


if __name__ == "__main__":
    main()
