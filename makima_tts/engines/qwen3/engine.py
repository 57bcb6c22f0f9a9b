"""The qwen3 engine: the SpeechEngine protocol in front of one engine thread.

In: utterances and voices, from the event loop. Out: streams of sound; voice prompts. Does not know: clients,
how an iteration works.

torch is imported when the engine starts.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import structlog

from makima_tts.engines.qwen3.scheduler import Admission, AdmissionRule
from makima_tts.engines.qwen3.utterance import FrameWatcher, SynthesisOptions
from makima_tts.errors import RateLimited, TtsUnavailable
from makima_tts.hub.cache import is_folder
from makima_tts.model import CpuPrecision, Precision
from makima_tts.protocol import LANGUAGES
from makima_tts.speech import (
    EngineFacts,
    EngineHealth,
    ProgressReport,
    SpeechSink,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
    check_reference,
    check_request,
)

if TYPE_CHECKING:
    from makima_tts.engines.qwen3.loop import EngineThread
    from makima_tts.model.speech_model import SpeechModel

_log = structlog.get_logger(__name__)

SAMPLE_RATE_HZ = 24_000
BUFFER_SAMPLES = SAMPLE_RATE_HZ
_WARM_UP = "Hello."
_WARM_UP_SAMPLES = SAMPLE_RATE_HZ
# Long enough that the first stream still runs when the last begins.
_FULL_BATCH = "This is what it takes when everybody speaks at once."
_FULL_BATCH_SAMPLES = SAMPLE_RATE_HZ // 2

# Load progress at the end of each stage.
_DOWNLOADED, _LOADED, _PREPARED = 0.4, 0.8, 0.95


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model, and where it runs. ``model_id``: a hub id or a folder."""

    model_id: str
    revision: str | None = None
    device: str = "auto"
    precision: Precision = "auto"
    cpu_precision: CpuPrecision = "auto"
    offline: bool = False


class Qwen3Engine:
    """A SpeechEngine. ``streams``: utterances at once, if ``admission`` admits so many; 0: as many as there
    is memory for. ``watch`` is called with every frame, on the engine thread.
    """

    def __init__(
        self,
        choice: ModelChoice,
        *,
        streams: int = 0,
        admission: AdmissionRule = "realtime",
        options: SynthesisOptions | None = None,
        watch: FrameWatcher | None = None,
    ) -> None:
        self._choice = choice
        self._streams = streams
        self._rule: AdmissionRule = admission
        self._admission = Admission(admission, streams)
        self._options = options or SynthesisOptions()
        self._watch = watch
        self._thread: EngineThread | None = None
        self._open: set[SpeechSink] = set()
        self._refusal: str | None = "The engine has not been started."
        self._closed = False
        self.facts = EngineFacts(
            name="qwen3",
            model=Path(choice.model_id).name if is_folder(choice.model_id) else choice.model_id,
            fingerprint=f"qwen3-{choice.model_id}-{choice.revision}",
            sample_rate_hz=SAMPLE_RATE_HZ,
            languages=LANGUAGES,
            note="Qwen3-TTS: cloned voices in ten languages; it does not follow instructions about style.",
        )

    async def start(self, report: ProgressReport) -> None:
        report("importing torch", 0.0)
        new_thread = await asyncio.to_thread(_engine_thread)
        if self._closed:
            raise TtsUnavailable("The engine was closed.")
        loop = asyncio.get_running_loop()

        def tell(stage: str, share: float) -> None:
            if self._closed:  # a download would go on for minutes
                raise TtsUnavailable("The engine was closed.")
            loop.call_soon_threadsafe(report, stage, share)

        self._thread = new_thread(
            lambda: self._load(tell),
            self._options,
            slots=self._streams,
            progress=lambda share: tell("preparing the device", _LOADED + share * (_PREPARED - _LOADED)),
            ended=self._open.discard,
            watch=self._watch,
        )
        model = await asyncio.wrap_future(self._thread.start())
        self.facts = replace(self.facts, kernels=model.ops.implementations)
        self._streams = self._thread.slots
        self._admission = Admission(self._rule, self._streams)
        self._refusal = None
        report("warming up", _PREPARED)
        if model.device.type != "cpu":  # a CPU loads nothing for it
            await self.encode_voice(_noise())
        await self._warm_up()
        report("ready", 1.0)

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        check_reference(reference)
        from makima_tts.model.reference_audio import APPENDED_SILENCE_S  # noqa: PLC0415
        from makima_tts.model.voice_encoding import encode_voice  # noqa: PLC0415

        silence_s = 0.0 if self._options.raw else APPENDED_SILENCE_S
        work = self._running().run(lambda model: encode_voice(model, reference, appended_silence_s=silence_s))
        tensors = await asyncio.wrap_future(work)
        return VoicePrompt(self.facts.fingerprint, tensors)

    async def similarity(self, voice: VoicePrompt, pcm: npt.NDArray[np.float32]) -> float:
        """How much ``pcm`` (float32 [samples] at 24 kHz) sounds like the voice: cosine of x-vectors."""
        from makima_tts.model.voice_encoding import embed_speaker, similarity, x_vector_of  # noqa: PLC0415

        x_vector = await asyncio.wrap_future(self._running().run(lambda model: embed_speaker(model, pcm)))
        return similarity(x_vector_of(voice.tensors), x_vector)

    def open(self, request: UtteranceRequest) -> SpeechStream:
        thread = self._running()
        check_request(self.facts, request)
        wait_s = self._admission.wait_s(thread.load, len(self._open), time.monotonic())
        if wait_s is not None:
            raise RateLimited(
                f"This server is speaking {len(self._open)} utterances and cannot keep up with one more; "
                "try again in a moment.",
                retry_after_s=wait_s,
            )
        return self._begin(thread, request)

    def _begin(self, thread: "EngineThread", request: UtteranceRequest) -> SpeechStream:
        stream, sink = SpeechStream.create(
            buffer_samples=BUFFER_SAMPLES, wake_engine=lambda: self._wake(thread, sink)
        )
        self._open.add(sink)
        thread.speak(request, sink)
        return stream

    def health(self) -> EngineHealth:
        if self._refusal is None and self._thread is not None and not self._thread.alive:
            self._refusal = "The engine has stopped."
        return EngineHealth(self._refusal is None, len(self._open), self._refusal)

    async def close(self) -> None:
        self._closed, self._refusal = True, "The engine was closed."
        if self._thread is not None:
            await asyncio.to_thread(self._thread.close)
        self._open.clear()

    def _running(self) -> "EngineThread":
        if self._thread is None or not self.health().alive:
            raise TtsUnavailable(self._refusal or "The engine has not been started.")
        return self._thread

    def _wake(self, thread: "EngineThread", sink: SpeechSink) -> None:
        if sink.cancelled:
            self._open.discard(sink)
        thread.wake()

    def _load(self, tell: Callable[[str, float], None]) -> "SpeechModel":
        """On the engine thread."""
        from makima_tts.hub.download import find_or_download  # noqa: PLC0415
        from makima_tts.model.checkpoint.folder import Checkpoint  # noqa: PLC0415
        from makima_tts.model.devices import device_of, precision_on  # noqa: PLC0415
        from makima_tts.model.speech_model import SpeechModel  # noqa: PLC0415

        choice = self._choice
        device = device_of(choice.device)
        precision = precision_on(device, choice.precision, choice.cpu_precision)
        _log.info("qwen3_runs_on", device=str(device), precision=precision.name)
        folder: Path = find_or_download(
            choice.model_id,
            revision=choice.revision,
            offline=choice.offline,
            report=lambda stage, share: tell(stage, share * _DOWNLOADED),
        )
        checkpoint = Checkpoint.open(folder)
        kept_as = f"qwen3-1-{checkpoint.fingerprint}-{precision.name}"
        known = checkpoint.config.talker_config.codec_language_id
        languages = tuple(name for name in LANGUAGES if name.lower() in known)
        self.facts = replace(self.facts, fingerprint=kept_as, languages=languages)
        return SpeechModel.load(
            checkpoint,
            device,
            precision.dtype,
            positions=self._options.positions,
            weight_bits=precision.weight_bits,
            progress=lambda share: tell("loading the model", _DOWNLOADED + share * (_LOADED - _DOWNLOADED)),
        )

    async def _warm_up(self) -> None:
        """A real utterance, so that no client waits for what happens only once; then a full batch.

        Admission depends on what one stream takes, and all of them.
        """
        await self._speak_briefly(_WARM_UP, 1, _WARM_UP_SAMPLES)
        if self._admission.depends_on_batch_costs(self._running().load):
            await self._speak_briefly(_FULL_BATCH, self._streams, _FULL_BATCH_SAMPLES)

    async def _speak_briefly(self, text: str, count: int, samples: int) -> None:
        """``count`` streams at once, each until it has so many samples or is complete."""
        thread = self._running()
        streams = [self._begin(thread, UtteranceRequest("warm-up", seed=0)) for _ in range(count)]
        for stream in streams:
            stream.feed(text)
            stream.finish()
        await asyncio.gather(*(_receive(stream, samples) for stream in streams))
        for stream in streams:
            stream.cancel()


def _noise() -> VoiceReference:
    """A clip to encode once: libraries load parts of themselves when they are first called."""
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal(3 * SAMPLE_RATE_HZ, np.float32)
    return VoiceReference(0.1 * noise, SAMPLE_RATE_HZ, _WARM_UP, "English", "icl")


async def _receive(stream: SpeechStream, samples: int) -> None:
    received = 0
    async for chunk in stream:
        received += chunk.pcm.size
        if received >= samples:
            break


def _engine_thread() -> type["EngineThread"]:
    """Takes seconds the first time: torch is large, and optional. Raises TtsUnavailable without it."""
    try:
        from makima_tts.engines.qwen3.loop import EngineThread  # noqa: PLC0415
    except ImportError as error:
        raise TtsUnavailable(
            f"Qwen3-TTS needs the package {error.name}: pip install 'makima-tts[qwen3]'."
        ) from error
    return EngineThread
