"""The reference engine: the package qwen-tts as it is, for comparison and as a fall-back.

In: pieces of text, reference clips. Out: float32 sound at 24 kHz, cloned voices. Does not know: how to
stream. A piece is delivered once all of it is generated.

All synthesis and encoding runs on one worker thread, a piece at a time: parallel utterances alternate, and a
voice that is encoded waits for the piece before it. Waiting for text and for credit happens on the event
loop. A cancel ends its utterance at once and stops the worker before the next frame; only the last step, from
codes to sound, is not interrupted.

What the package decides stays as it is: its prompt, its sampling, its decoder. Three things are added: a
bound on the frames of a piece, a way to stop in the middle of one, and that a text is nothing but text.
"""

import asyncio
import hashlib
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from makima_tts.engines.utterance_tasks import PieceSound, UtteranceTasks, chunk_sizes, put_in_chunks
from makima_tts.errors import GpuOutOfMemory, SynthesisError, TtsError, TtsUnavailable, VoiceNotFound
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
from makima_tts.text import longest_speech_s

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920
BUFFER_SAMPLES = 2 * SAMPLE_RATE_HZ
LARGEST_CHUNK_SAMPLES = SAMPLE_RATE_HZ

NOT_INSTALLED = (
    "The qwen-tts package is not installed here. It has an environment of its own: run `make venv-qwen-tts`, "
    "then `.venvs/qwen-tts/bin/makima-tts serve`."
)

Tensors = Mapping[str, npt.NDArray[np.generic]]


class SynthesisStopped(Exception):
    """The utterance was cancelled in the middle of a piece."""


@dataclass(frozen=True, slots=True)
class PieceRequest:
    """One piece to synthesize. ``voice``: tensors of ``encode``, None for no speaker at all."""

    text: str = field(repr=False)
    language: str
    voice: Tensors | None
    seed: int
    index: int


_WARM_UP = PieceRequest("This is how I sound.", "English", voice=None, seed=0, index=0)
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
            # The format of the tensors, and the model that they belong to.
            fingerprint=f"qwen-tts-1 {name} {state}".rstrip(),
            sample_rate_hz=SAMPLE_RATE_HZ,
            languages=LANGUAGES,
            cloning=True,
            text_streaming=True,
            note="The reference implementation of Qwen3-TTS: each sentence is heard once all of it was made.",
        )
        self._utterances = UtteranceTasks(self._facts, buffer_samples=BUFFER_SAMPLES)
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
            await self._in_worker(partial(self._model.synthesize, _WARM_UP))
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
        """A truncated piece ends no other: the rest of the text is spoken."""
        voice = None if request.voice is None else request.voice.tensors
        seed = secrets.randbits(63) if request.seed is None else request.seed
        sizes = chunk_sizes(LARGEST_CHUNK_SAMPLES)
        index = 0
        reason: FinishReason = "stop"
        while (piece := await sink.next_piece()) is not None and await sink.credit():
            sound, truncated = await self._synthesize(
                PieceRequest(piece, request.language, voice, seed, index)
            )
            await put_in_chunks(sink, sound, index, sizes)
            reason = "length" if truncated else reason
            index += 1
        return reason

    async def _synthesize(self, request: PieceRequest) -> tuple[PieceSound, bool]:
        """A cancel stops the worker, wherever it ends this task."""
        stopped = threading.Event()
        try:
            return await self._in_worker(partial(self._model.synthesize, request, stopped.is_set))
        finally:
            stopped.set()


class OfficialModel:
    """Everything blocks and belongs on one and the same worker: the random numbers are all the process's."""

    def __init__(
        self, model_id: str, revision: str | None, device: str, *, offline: bool, max_frames: int | None
    ) -> None:
        self._model_id = model_id
        self._revision = revision
        self._device = device
        self._offline = offline
        self._max_frames = max_frames
        self._torch: Any = None
        self._package: Any = None
        self._reference: Any = None
        self._markup = re.compile("(?!)")
        self._stopped: Callable[[], bool] = lambda: False

    def import_package(self) -> None:
        """Raises TtsUnavailable where the package is not installed, or does not work."""
        try:
            self._torch = import_module("torch")
            self._package = import_module("qwen_tts")
            # It warns of the same harmless thing with every piece.
            import_module("transformers").logging.set_verbosity_error()
        except ModuleNotFoundError:
            raise TtsUnavailable(NOT_INSTALLED) from None
        except Exception as error:
            name = type(error).__name__
            raise TtsUnavailable(f"The qwen-tts package is installed but does not work: {name}.") from error

    def load(self) -> None:
        """Raises TtsUnavailable, with what to do, when there is no such device or model."""
        # Here, not above: torch is imported when the engine starts.
        from makima_tts.model.devices import device_of  # noqa: PLC0415

        device = str(device_of(self._device))
        try:
            self._reference = self._package.Qwen3TTSModel.from_pretrained(
                self._source(), device_map=device, **self._precision(device)
            )
        except (OSError, ValueError) as error:
            place = "on this machine's disk" if self._offline else "on this machine's disk or at Hugging Face"
            raise TtsUnavailable(
                f"TTS_MODEL_ID names no whole Qwen3-TTS checkpoint that could be read {place}."
            ) from error
        except Exception as error:
            name = type(error).__name__
            raise TtsUnavailable(f"The qwen-tts package cannot load the model: {name}.") from error
        self._prepare()

    def encode(self, reference: VoiceReference) -> dict[str, npt.NDArray[np.generic]]:
        """``x_vector`` float32 [D], and ``icl`` uint8 [1].

        If that is 1, also ``ref_code`` int64 [T, Q], and ``transcript``, its UTF-8 as uint8 [bytes].
        """
        icl = reference.mode == "icl"
        [item] = self._with_memory(
            lambda: self._reference.create_voice_clone_prompt(
                (reference.pcm, reference.sample_rate_hz),
                ref_text=reference.transcript if icl else None,
                x_vector_only_mode=not icl,
            )
        )
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "x_vector": item.ref_spk_embedding.float().cpu().numpy(),
            "icl": np.array([icl], np.uint8),
        }
        if icl:
            tensors["ref_code"] = item.ref_code.cpu().numpy().astype(np.int64)
            tensors["transcript"] = np.frombuffer((reference.transcript or "").encode(), np.uint8)
        return tensors

    def synthesize(
        self, request: PieceRequest, stopped: Callable[[], bool] = lambda: False
    ) -> tuple[PieceSound, bool]:
        """The sound of a piece, and whether it was cut off because it did not end in time.

        ``stopped`` is asked before each frame, from this thread; once it is true, this raises.
        """
        self._stopped = stopped
        began_s = time.perf_counter()
        budget_frames = self._budget_frames(request)
        pcm = self._with_memory(lambda: self._generate(request, budget_frames))
        most_samples = budget_frames * FRAME_SAMPLES
        sound = PieceSound(np.clip(pcm[:most_samples], -1.0, 1.0), time.perf_counter() - began_s)
        return sound, pcm.size > most_samples

    def unload(self) -> None:
        self._reference = None

    def _precision(self, device: str) -> dict[str, object]:
        """bfloat16 needs hardware support; FlashAttention needs CUDA and its own package."""
        if not device.startswith("cuda"):
            return {"dtype": self._torch.float32}
        attention = {"attn_implementation": "flash_attention_2"} if find_spec("flash_attn") else {}
        return {"dtype": self._torch.bfloat16, **attention}

    def _source(self) -> str:
        """Where to load from; offline or pinned, a folder. Raises OSError when there is none."""
        hub = import_module("huggingface_hub")
        offline = self._offline or hub.constants.HF_HUB_OFFLINE
        if Path(self._model_id).is_dir() or not (offline or self._revision):
            return self._model_id
        # Given an id, the package asks the hub even for what it has on disk, and for its newest codec.
        return str(hub.snapshot_download(self._model_id, revision=self._revision, local_files_only=offline))

    def _prepare(self) -> None:
        model, processor = self._reference.model, self._reference.processor
        if model.tts_model_type != "base":
            raise TtsUnavailable("TTS_MODEL_ID names a model that clones no voices; choose a Base model.")
        if getattr(processor.tokenizer, "fix_mistral_regex", False):
            processor.tokenizer = self._tokenizer_as_trained()
        added = processor.tokenizer.get_added_vocab()
        self._markup = re.compile("|".join(map(re.escape, added)) or "(?!)")
        model.talker.register_forward_pre_hook(self._before_frame)

    def _tokenizer_as_trained(self) -> Any:
        """Of a model in a folder, not of one with an id, the package splits words as Mistral's are split."""
        tokenizer = type(self._reference.processor.tokenizer)
        return tokenizer.from_pretrained(self._source(), fix_mistral_regex=False)

    def _before_frame(self, *_: object) -> None:
        if self._stopped():
            raise SynthesisStopped

    def _budget_frames(self, request: PieceRequest) -> int:
        frames = math.ceil(longest_speech_s(request.text, request.language) * SAMPLE_RATE_HZ / FRAME_SAMPLES)
        return frames if self._max_frames is None else min(frames, self._max_frames)

    def _generate(self, request: PieceRequest, budget_frames: int) -> npt.NDArray[np.float32]:
        self._torch.manual_seed(_number_from(request.seed, request.index))
        # One frame more than allowed tells what was cut off from what just ended; of the tokens that it is
        # given, the package makes the last into no frame.
        [pcm], _ = self._reference.generate_voice_clone(
            self._plain(request.text),
            language=request.language,
            voice_clone_prompt=[self._prompt_item(request.voice)],
            max_new_tokens=budget_frames + 2,
        )
        return np.asarray(pcm, np.float32)

    def _prompt_item(self, voice: Tensors | None) -> Any:
        """With neither mode set, the package puts no speaker into the prompt."""
        make = self._package.VoiceClonePromptItem
        if voice is None:
            return make(None, self._torch.zeros(1), x_vector_only_mode=False, icl_mode=False)
        x_vector = self._torch.from_numpy(np.array(voice["x_vector"]))
        if not voice["icl"][0]:
            return make(None, x_vector, x_vector_only_mode=True, icl_mode=False)
        code = self._torch.from_numpy(np.array(voice["ref_code"])).to(self._reference.device)
        transcript = self._plain(voice["transcript"].tobytes().decode())
        return make(code, x_vector, x_vector_only_mode=False, icl_mode=True, ref_text=transcript)

    def _plain(self, text: str) -> str:
        """The package would obey ``<|im_end|>`` in a text: a space inside makes it characters like any."""
        return self._markup.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text.lstrip())

    def _with_memory(self, work: Callable[[], _Result]) -> _Result:
        try:
            return work()
        except self._torch.OutOfMemoryError:
            self._torch.cuda.empty_cache()
        raise GpuOutOfMemory("The device's memory was too small for this; it was freed.")


def _number_from(seed: int, index: int) -> int:
    """One of torch's seeds for each piece of each utterance's seed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:8]) >> 1


def _name_and_state(model_id: str, revision: str | None) -> tuple[str, str]:
    """A model's name for clients, without a path, and what distinguishes its weights from others."""
    folder = Path(model_id)
    if not folder.is_dir():
        return model_id, revision or ""
    files = [path.stat() for path in map(folder.joinpath, _WEIGHTS) if path.is_file()]
    stamps = [(file.st_size, file.st_mtime_ns) for file in files]
    return folder.resolve().name, hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
