"""The reference engine: the package qwen-tts as it is, for comparison and as a fall-back.

In: pieces of text, reference clips. Out: float32 sound at 24 kHz, voices cloned. Does not know: how to
stream. A piece is heard once all of it has been made.

All synthesis and encoding runs on one worker thread, a piece at a time: utterances side by side take turns,
and a voice that is encoded waits for the piece before it. Waiting for text and for credit happens on the
event loop. A cancel ends its utterance at once and stops the worker before the next frame; only the last
step, from codes to sound, is not interrupted.
"""

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from makima_tts.engines.official_model import SAMPLE_RATE_HZ, Line, OfficialModel
from makima_tts.engines.open_utterances import OpenUtterances
from makima_tts.engines.whole_pieces import Spoken, chunk_sizes, deliver
from makima_tts.errors import SynthesisError, TtsError, TtsUnavailable, VoiceNotFound
from makima_tts.protocol import LANGUAGES
from makima_tts.speech import (
    EngineFacts,
    EngineHealth,
    FinishReason,
    LoadProgress,
    ProgressReport,
    SpeechSink,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
)

BUFFER_SAMPLES = 2 * SAMPLE_RATE_HZ
LARGEST_CHUNK_SAMPLES = SAMPLE_RATE_HZ

_WARM_UP = Line("This is how I sound.", "English", voice=None, seed=0, index=0)
_WEIGHTS = ("config.json", "model.safetensors", "speech_tokenizer/model.safetensors")

_Result = TypeVar("_Result")
_log = structlog.get_logger(__name__)


class OfficialEngine:
    """A SpeechEngine that clones voices, one piece at a time.

    ``model_id``: a Hugging Face id or a folder; ``revision``: a commit, branch or tag of it. ``offline``: use
    what is on disk, ask no network.
    ``max_frames``: no piece is longer; without it, its text says how long it may be.
    """

    def __init__(
        self,
        *,
        model_id: str,
        revision: str | None = None,
        device: str = "auto",
        offline: bool = False,
        max_frames: int | None = None,
    ) -> None:
        name, state = _name_and_state(model_id, revision)
        self._facts = EngineFacts(
            name="qwen-tts",
            model=name,
            # The form of the tensors, and what they were made with.
            fingerprint=f"qwen-tts-1 {name} {state}".rstrip(),
            sample_rate_hz=SAMPLE_RATE_HZ,
            languages=LANGUAGES,
            cloning=True,
            text_streaming=True,
            note="The reference implementation of Qwen3-TTS: each sentence is heard once all of it was made.",
        )
        self._utterances = OpenUtterances(self._facts, buffer_samples=BUFFER_SAMPLES)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="qwen-tts")
        self._model = OfficialModel(model_id, revision, device, offline=offline, max_frames=max_frames)

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    async def start(self, report: ProgressReport) -> None:
        try:
            report(LoadProgress("importing the qwen-tts package", 0.0))
            await self._in_worker(self._model.import_package)
            report(LoadProgress("loading the model", 0.2))
            await self._in_worker(self._model.load)
            report(LoadProgress("warming up", 0.8))
            await self._in_worker(partial(self._model.say, _WARM_UP))
        except TtsError:
            raise
        except Exception as error:
            raise TtsUnavailable(f"The qwen-tts engine cannot be loaded: {type(error).__name__}.") from error
        self._utterances.admit()
        report(LoadProgress("ready", 1.0))

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        if reference.mode == "icl" and not reference.transcript:
            raise VoiceNotFound("Cloning in mode icl needs the transcript of the clip.")
        if (refusal := self.health().reason) is not None:
            raise TtsUnavailable(refusal)
        try:
            tensors = await self._in_worker(partial(self._model.encode, reference))
        except TtsError:
            raise
        except Exception as error:
            _log.error("encoding_failed", engine=self._facts.name, error=type(error).__name__)
            raise SynthesisError("The engine failed while it encoded this voice.") from error
        return VoicePrompt(self._facts.fingerprint, tensors)

    def open(self, request: UtteranceRequest) -> SpeechStream:
        return self._utterances.open(request, partial(self._speak, request))

    def health(self) -> EngineHealth:
        return self._utterances.health()

    async def close(self) -> None:
        await self._utterances.close()
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)
        self._model.unload()

    async def _in_worker(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _speak(self, request: UtteranceRequest, sink: SpeechSink) -> FinishReason:
        """A piece that was cut off takes no other with it: the rest of the text is spoken."""
        voice = None if request.voice is None else request.voice.tensors
        seed = secrets.randbits(63) if request.seed is None else request.seed
        sizes = chunk_sizes(LARGEST_CHUNK_SAMPLES)
        index = 0
        reason: FinishReason = "stop"
        while (piece := await sink.next_piece()) is not None and await sink.credit():
            spoken, cut = await self._say(Line(piece, request.language, voice, seed, index))
            await deliver(sink, spoken, index, sizes)
            reason = "length" if cut else reason
            index += 1
        return reason

    async def _say(self, line: Line) -> tuple[Spoken, bool]:
        """The worker hears of a cancel, however this task meets it."""
        over = threading.Event()
        try:
            return await self._in_worker(partial(self._model.say, line, over.is_set))
        finally:
            over.set()


def _name_and_state(model_id: str, revision: str | None) -> tuple[str, str]:
    """A model's name for clients, who are told no paths, and what tells its weights from others."""
    folder = Path(model_id)
    if not folder.is_dir():
        return model_id, revision or ""
    files = [path.stat() for path in map(folder.joinpath, _WEIGHTS) if path.is_file()]
    stamps = [(file.st_size, file.st_mtime_ns) for file in files]
    return folder.resolve().name, hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
