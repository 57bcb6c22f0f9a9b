"""What is counted and timed, for Prometheus.

In: observations from every layer. Out: ``/metrics``. Does not know: HTTP. No label ever holds what a user
sent: outcomes, codes and kinds only.
"""

from typing import TypedDict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_FAST_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
_LATE_S = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_RTF = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0, 5.0)

CONTENT_TYPE = CONTENT_TYPE_LATEST
# A timestamp beside every counter and histogram: twice the lines, and nobody asks.
disable_created_metrics()  # type: ignore[no-untyped-call]


class _Place(TypedDict):
    registry: CollectorRegistry
    namespace: str


class Metrics:
    """One registry per service, so that two in one process (tests) never mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        place: _Place = {"registry": self.registry, "namespace": "makima_tts"}
        self.ttfa_s = Histogram("ttfa_seconds", "Head of the queue to first byte", buckets=_FAST_S, **place)
        self.lateness_s = Histogram(
            "lateness_seconds", "How long the listener had been dry, per chunk", buckets=_LATE_S, **place
        )
        self.rtf = Histogram("rtf", "Synthesis seconds per audio second", buckets=_RTF, **place)
        self.queue_wait_s = Histogram(
            "queue_wait_seconds", "Accepted to head of the queue", buckets=_FAST_S, **place
        )
        self.cancel_to_silence_s = Histogram(
            "cancel_to_silence_seconds", "A cancel to the engine being rid of it", buckets=_FAST_S, **place
        )
        self.sessions = Gauge("sessions", "Sessions that are open", **place)
        self.sessions_opened = Counter("sessions_opened", "Sessions that were opened", **place)
        self.rejected = Counter("rejected", "Connections turned away", ["reason"], **place)
        self.utterances = Counter("utterances", "Utterances by how they ended", ["outcome"], **place)
        self.speaking = Gauge("utterances_speaking", "Utterances that are being spoken", **place)
        self.audio_s = Counter("audio_seconds", "Audio sent", **place)
        self.underruns = Counter("underruns", "Chunks that came after the listener ran dry", **place)
        self.voice_cache = Counter("voice_cache", "Encoded voices looked up", ["result"], **place)
        self.voice_cache_evictions = Counter(
            "voice_cache_evictions", "Encoded voices dropped", ["reason"], **place
        )
        self.voice_cache_bytes = Gauge("voice_cache_bytes", "Memory of encoded voices", **place)
        self.voice_encodings = Counter("voice_encodings", "Voices that the engine had to encode", **place)

    def count_utterance(
        self,
        outcome: str,
        *,
        queue_s: float | None = None,
        ttfa_s: float | None = None,
        rtf: float | None = None,
    ) -> None:
        """``outcome``: ``complete`` or an error code. Figures are None where there are none."""
        self.utterances.labels(outcome=outcome).inc()
        if queue_s is not None:
            self.queue_wait_s.observe(queue_s)
        if ttfa_s is not None:
            self.ttfa_s.observe(ttfa_s)
        if rtf is not None:
            self.rtf.observe(rtf)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
