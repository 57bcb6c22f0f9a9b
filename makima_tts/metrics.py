"""What is counted and timed, for Prometheus.

In: observations from every layer. Out: ``/metrics``. Does not know: HTTP. No label ever holds what a user
sent: outcomes, codes and kinds only.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_FAST_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
_LATE_S = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_RTF = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0, 5.0)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """One registry per service, so that two in one process (tests) never mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        make = {"registry": self.registry, "namespace": "makima_tts"}
        self.ttfa_s = Histogram(
            "ttfa_seconds", "Head of the queue to the first byte", buckets=_FAST_S, **make
        )
        self.lateness_s = Histogram(
            "lateness_seconds", "How dry the listener had run, per chunk", buckets=_LATE_S, **make
        )
        self.rtf = Histogram("rtf", "Synthesis seconds per audio second, per utterance", buckets=_RTF, **make)
        self.queue_wait_s = Histogram(
            "queue_wait_seconds", "Accepted to head of the queue", buckets=_FAST_S, **make
        )
        self.cancel_to_silence_s = Histogram(
            "cancel_to_silence_seconds", "A cancel's arrival to the engine's last sample", buckets=_FAST_S, **make
        )
        self.sessions = Gauge("sessions", "Sessions that are open", **make)
        self.sessions_total = Counter("sessions_opened", "Sessions that were opened", **make)
        self.rejected_total = Counter("rejected", "Connections turned away", ["reason"], **make)
        self.utterances_total = Counter("utterances", "Utterances by how they ended", ["outcome"], **make)
        self.speaking = Gauge("utterances_speaking", "Utterances that are being spoken", **make)
        self.audio_s_total = Counter("audio_seconds", "Audio sent", **make)
        self.underruns_total = Counter("underruns", "Chunks that came after the listener ran dry", **make)
        self.voice_cache_total = Counter("voice_cache", "Encoded voices looked up", ["result"], **make)
        self.voice_cache_evictions_total = Counter(
            "voice_cache_evictions", "Encoded voices dropped", ["reason"], **make
        )
        self.voice_cache_bytes = Gauge("voice_cache_bytes", "Memory of encoded voices", **make)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
