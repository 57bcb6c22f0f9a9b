"""The engine's life as sessions see it: loading, ready, failed.

In: the engine and the voices. Out: reports to whoever watches. Does not know: sessions, HTTP.
"""

from collections.abc import Callable

import structlog

from makima_tts.errors import ModelLoading, TtsError, TtsUnavailable
from makima_tts.session import EngineFailed, EngineLoading, EngineReady
from makima_tts.speech import LoadProgress, SpeechEngine
from makima_tts.voices import VoiceManager

LifeReport = EngineLoading | EngineReady | EngineFailed
Watcher = Callable[[LifeReport], None]

_log = structlog.get_logger(__name__)
_RETRY_AFTER_S = 5.0


class EngineLife:
    """``run`` once, in the background; ``report`` is always the latest word."""

    def __init__(self, engine: SpeechEngine, voices: VoiceManager) -> None:
        self._engine = engine
        self._voices = voices
        self._watchers: set[Watcher] = set()
        self.report: LifeReport = EngineLoading("starting", 0.0)

    async def run(self) -> None:
        """Load, warm up, prepare the default voice. Never raises: a failure is a report."""
        try:
            await self._engine.start(self._progress)
            voice = await self._voices.prepare_default()
        except TtsError as error:
            _log.error("engine_failed", engine=self._engine.facts.name, reason=error.message)
            self._tell(EngineFailed(error.message))
        except Exception:
            _log.exception("engine_failed", engine=self._engine.facts.name)
            self._tell(EngineFailed("The engine could not be loaded; the server's log says why."))
        else:
            facts = self._engine.facts
            _log.info("engine_ready", engine=facts.name, model=facts.model, voice=voice.id)
            self._tell(
                EngineReady(
                    engine=facts.name,
                    model=facts.model,
                    languages=facts.languages,
                    cloning=facts.cloning,
                    text_streaming=facts.text_streaming,
                    voice=voice.id,
                    voice_loaded=True,
                )
            )

    def watch(self, watcher: Watcher) -> None:
        """``watcher`` hears the latest report now, and every later one."""
        self._watchers.add(watcher)
        watcher(self.report)

    def unwatch(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def require_ready(self) -> EngineReady:
        """Raises ModelLoading, or TtsUnavailable."""
        if isinstance(self.report, EngineReady):
            return self.report
        if isinstance(self.report, EngineFailed):
            raise TtsUnavailable(self.report.reason)
        raise ModelLoading(f"The model is loading ({self.report.stage}).", retry_after_s=_RETRY_AFTER_S)

    def _progress(self, progress: LoadProgress) -> None:
        self._tell(EngineLoading(progress.stage, progress.progress))

    def _tell(self, report: LifeReport) -> None:
        self.report = report
        for watcher in tuple(self._watchers):
            watcher(report)
