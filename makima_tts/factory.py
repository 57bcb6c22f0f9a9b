"""The composition root: Settings in, a running service's parts out.

In: Settings. Out: the engine that was chosen and why, and the app around it. Does not know: processes,
sockets, the command line.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from fastapi import FastAPI
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from makima_tts.alignment import Aligner
from makima_tts.api.app import create_app
from makima_tts.api.service import Service
from makima_tts.engines import OfficialEngine, OfficialModel, PreviewEngine, ScriptedEngine
from makima_tts.engines.qwen3 import FrameWatcher, ModelChoice, Qwen3Engine, SynthesisOptions
from makima_tts.errors import TtsUnavailable
from makima_tts.hub.cache import find_on_disk
from makima_tts.metrics import Metrics
from makima_tts.protocol import Limits
from makima_tts.settings import Settings
from makima_tts.speech import ProgressReport, SpeechEngine
from makima_tts.voices import VoiceLibrary, VoiceManager

QWEN3_PACKAGES = ("torch", "safetensors", "tokenizers", "huggingface_hub")
QWEN3_REMEDY = "pip install 'makima-tts[qwen3]'"
OFFICIAL_PACKAGES = ("torch", "transformers", "qwen_tts")
OFFICIAL_REMEDY = "make venv-qwen-tts, and start .venvs/qwen-tts/bin/makima-tts"
# The packages of an engine that is not part of the default install, and how to get them.
_NEEDS = {"qwen3": (QWEN3_PACKAGES, QWEN3_REMEDY), "qwen-tts": (OFFICIAL_PACKAGES, OFFICIAL_REMEDY)}


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """``name`` is an engine that can be built; ``lacks``: why it is not Qwen3-TTS. Words for people."""

    name: str
    reason: str
    lacks: tuple[str, ...] = ()


def choose_engine(settings: Settings) -> EngineChoice:
    """``auto`` picks, and says why. A named engine is that engine: TtsUnavailable says what it lacks."""
    engine = settings.engine
    if engine == "auto":
        if lacks := qwen3_lacks(settings.model_id, settings.model_revision):
            return EngineChoice("preview", "Qwen3-TTS cannot run here yet", lacks)
        return EngineChoice("qwen3", "installed, and its checkpoint is on disk")
    packages, remedy = _NEEDS.get(engine, ((), ""))
    if missing := missing_packages(packages):
        raise TtsUnavailable(
            f"TTS_ENGINE={engine} cannot be started: it lacks the packages {', '.join(missing)} ({remedy}). "
            "Set TTS_ENGINE=preview or auto to run the embedded stand-in."
        )
    return EngineChoice(engine, f"TTS_ENGINE={engine}")


def missing_packages(packages: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are not installed."""
    return tuple(name for name in packages if find_spec(name) is None)


def qwen3_lacks(model_id: str, revision: str | None) -> tuple[str, ...]:
    """Empty when the engine can be started without a download."""
    lacks = []
    if missing := missing_packages(QWEN3_PACKAGES):
        lacks.append(f"the packages {', '.join(missing)} ({QWEN3_REMEDY})")
    if find_on_disk(model_id, revision) is None:
        lacks.append(f"the checkpoint {model_id} (makima-tts download)")
    return tuple(lacks)


def build_engine(choice: EngineChoice, settings: Settings) -> SpeechEngine:
    """Cheap: nothing is loaded before ``start``."""
    match choice.name:
        case "preview":
            return PreviewEngine()
        case "qwen3":
            return build_qwen3(settings)
        case "qwen-tts":
            return OfficialEngine(
                OfficialModel(
                    settings.model_id, settings.model_revision, settings.device, offline=settings.offline
                )
            )
        case _:
            return ScriptedEngine()


def build_qwen3(
    settings: Settings, options: SynthesisOptions | None = None, watch: FrameWatcher | None = None
) -> Qwen3Engine:
    """``options`` and ``watch``: for one text alone, see Qwen3Engine."""
    choice = ModelChoice(
        settings.model_id,
        revision=settings.model_revision,
        device=settings.device,
        precision=settings.precision,
        cpu_precision=settings.cpu_precision,
        offline=settings.offline,
    )
    return Qwen3Engine(
        choice, streams=settings.max_streams, admission=settings.admission, options=options, watch=watch
    )


@asynccontextmanager
async def running(
    engine: SpeechEngine, report: ProgressReport = lambda _stage, _progress: None
) -> AsyncIterator[None]:
    """Started for this block alone: for commands that need no server."""
    try:
        await engine.start(report)
        yield
    finally:
        await engine.close()


def build_voices(settings: Settings, engine: SpeechEngine, metrics: Metrics) -> VoiceManager:
    """The shipped voices and the operator's, encoded by ``engine``."""
    return VoiceManager(
        VoiceLibrary(settings.voices_dir),
        engine,
        cache_dir=settings.cache_dir,
        max_count=settings.voice_cache_count,
        max_bytes=settings.voice_cache_bytes,
        ttl_s=settings.voice_cache_ttl_s,
        default_voice=settings.default_voice,
        metrics=metrics,
    )


def build_service(settings: Settings, engine: SpeechEngine) -> Service:
    """Everything that lives as long as the process."""
    metrics = Metrics()
    return Service(
        engine=engine,
        voices=build_voices(settings, engine, metrics),
        limits=limits_of(settings),
        metrics=metrics,
        drain_timeout_s=settings.drain_timeout_s,
        allow_connection=_connection_limit(settings.connects_per_minute),
        aligner=Aligner() if Aligner.available() else None,
    )


def build_app(settings: Settings, service: Service) -> FastAPI:
    """The ASGI app; its lifespan loads the engine."""
    return create_app(
        service,
        allowed_origins=settings.allowed_origins,
        trusted_proxies=settings.trusted_proxies,
        max_upload_bytes=settings.max_upload_bytes,
        openai_speakers=settings.openai_speakers,
    )


def limits_of(settings: Settings) -> Limits:
    """What sessions keep to."""
    return Limits(
        max_text_chars=settings.max_text_chars,
        max_utterance_chars=settings.max_utterance_chars,
        max_queued_utterances=settings.max_queued_utterances,
        idle_timeout_ms=_ms(settings.idle_timeout_s),
        max_session_ms=_ms(settings.max_session_s),
        max_text_stall_ms=_ms(settings.text_stall_s),
        text_idle_ms=_ms(settings.text_idle_s),
        utterance_timeout_ms=_ms(settings.utterance_timeout_s),
        load_timeout_ms=_ms(settings.load_timeout_s),
        max_ahead_ms=_ms(settings.max_ahead_s),
        max_connections=settings.max_connections,
        max_waiting_requests=settings.max_waiting_requests,
        text_cleaning=settings.text_cleaning,
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _connection_limit(per_minute: int) -> Callable[[str], bool]:
    """Whether one more connection from an address is within the limit; 0 is no limit."""
    if not per_minute:
        return lambda _address: True
    limit = RateLimitItemPerMinute(per_minute)
    limiter = MovingWindowRateLimiter(MemoryStorage())
    return lambda address: limiter.hit(limit, address)
