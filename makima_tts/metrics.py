"""Prometheus metrics. No label holds what a user sent: outcomes, codes and reasons only."""

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_FAST_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
_LATE_S = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_RTF = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0, 5.0)

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Without a creation timestamp beside every counter and histogram, which doubles the output.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """One registry per service, so that two in one process (tests) stay separate."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry, namespace="makima_tts")
        gauge = partial(Gauge, registry=self.registry, namespace="makima_tts")
        histogram = partial(Histogram, registry=self.registry, namespace="makima_tts")
        self.ttfa_s = histogram("ttfa_seconds", "Head of the queue to first byte", buckets=_FAST_S)
        self.lateness_s = histogram(
            "lateness_seconds", "How long the listener had been dry, per chunk", buckets=_LATE_S
        )
        self.rtf = histogram("rtf", "Synthesis seconds per audio second", buckets=_RTF)
        self.queue_wait_s = histogram("queue_wait_seconds", "Accepted to head of the queue", buckets=_FAST_S)
        self.cancel_to_silence_s = histogram(
            "cancel_to_silence_seconds", "A cancel to the engine being rid of it", buckets=_FAST_S
        )
        self.sessions = gauge("sessions", "Sessions that are open")
        self.sessions_opened = counter("sessions_opened", "Sessions that were opened")
        self.rejected = counter("rejected", "Connections turned away", ["reason"])
        self.utterances = counter("utterances", "Utterances by how they ended", ["outcome"])
        self.speaking = gauge("utterances_speaking", "Utterances that are being spoken")
        self.audio_s = counter("audio_seconds", "Audio sent")
        self.underruns = counter("underruns", "Chunks that came after the listener ran dry")
        self.voice_cache = counter("voice_cache", "Encoded voices looked up", ["result"])
        self.voice_cache_evictions = counter("voice_cache_evictions", "Encoded voices dropped", ["reason"])
        self.voice_cache_bytes = gauge("voice_cache_bytes", "Memory of encoded voices")
        self.voice_encodings = counter("voice_encodings", "Voices that the engine had to encode")
        self.kernels = gauge("kernel_implementation", "Always 1", ["family", "implementation"])

    def count_utterance(
        self,
        outcome: str,
        *,
        queue_s: float | None = None,
        ttfa_s: float | None = None,
        rtf: float | None = None,
    ) -> None:
        """``outcome``: ``complete`` or an error code. A figure is None if it was not measured."""
        self.utterances.labels(outcome=outcome).inc()
        for histogram, figure in ((self.queue_wait_s, queue_s), (self.ttfa_s, ttfa_s), (self.rtf, rtf)):
            if figure is not None:
                histogram.observe(figure)

    def render(self, kernels: Mapping[str, str] = {}) -> bytes:
        """The Prometheus text format. ``kernels``: see EngineFacts."""
        self.kernels.clear()
        for family, implementation in kernels.items():
            self.kernels.labels(family=family, implementation=implementation).set(1)
        return generate_latest(self.registry)
