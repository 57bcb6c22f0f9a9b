"""The reference engine: the package qwen-tts as it is, for comparison and as a fall-back.

In: pieces of text, reference clips. Out: float32 sound at 24 kHz, cloned voices. Does not know: how to
stream. A piece is delivered once all of it is generated.

Parallel utterances alternate by the piece, and a voice that is encoded waits for the piece before it. A
cancel stops the worker before the next frame; only the last step, from codes to sound, is not interrupted.

What the package decides stays as it is: its prompt, its sampling, its decoder. Three things are added: a
bound on the frames of a piece, a way to stop in the middle of one, and that a text is nothing but text.
"""

import hashlib
import math
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from makima_tts.engines.pieces import PieceEngine, PieceSound
from makima_tts.errors import GpuOutOfMemory, SynthesisError, TtsError, TtsUnavailable
from makima_tts.protocol import LANGUAGES
from makima_tts.speech import (
    EngineFacts,
    FinishReason,
    ProgressReport,
    SpeechSink,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
    check_reference,
)
from makima_tts.text import longest_speech_s

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920
BUFFER_SAMPLES = 2 * SAMPLE_RATE_HZ

NOT_INSTALLED = (
    "The qwen-tts package is not installed here. It has an environment of its own: run `make venv-qwen-tts`, "
    "then `.venvs/qwen-tts/bin/makima-tts serve`."
)


class SynthesisStopped(Exception):
    """The utterance was cancelled in the middle of a piece."""


_WARM_UP = UtteranceRequest("warm-up", seed=0), "This is how I sound."
_WEIGHTS = ("config.json", "model.safetensors", "speech_tokenizer/model.safetensors")

_Result = TypeVar("_Result")
_log = structlog.get_logger(__name__)


class OfficialEngine(PieceEngine):
    """A SpeechEngine that clones voices, one piece at a time."""

    def __init__(self, model: "OfficialModel") -> None:
        name, state = _name_and_state(model.model_id, model.revision)
        facts = EngineFacts(
            name="qwen-tts",
            model=name,
            # The format of the tensors, and the model that they belong to.
            fingerprint=f"qwen-tts-1 {name} {state}".rstrip(),
            sample_rate_hz=SAMPLE_RATE_HZ,
            languages=LANGUAGES,
            note="The reference implementation of Qwen3-TTS: a sentence is sent once it is complete.",
        )
        super().__init__(facts, buffer_samples=BUFFER_SAMPLES)
        self._model = model

    async def start(self, report: ProgressReport) -> None:
        try:
            report("importing the qwen-tts package", 0.0)
            await self._in_worker(self._model.import_package)
            report("loading the model", 0.2)
            await self._in_worker(self._model.load)
            report("warming up", 0.8)
            await self._in_worker(partial(self._model.synthesize, *_WARM_UP))
        except TtsError:
            raise
        except Exception as error:
            raise TtsUnavailable(f"The qwen-tts engine cannot be loaded: {type(error).__name__}.") from error
        self._admit()
        report("ready", 1.0)

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        check_reference(reference)
        self._check_running()
        try:
            tensors = await self._in_worker(partial(self._model.encode, reference))
        except TtsError:
            raise
        except Exception as error:
            _log.error("encoding_failed", engine=self.facts.name, error=type(error).__name__)
            raise SynthesisError("The engine failed while it encoded this voice.") from error
        return VoicePrompt(self.facts.fingerprint, tensors)

    async def close(self) -> None:
        await super().close()
        self._model.unload()

    async def _speak(self, request: UtteranceRequest, sink: SpeechSink) -> FinishReason:
        seed = secrets.randbits(63) if request.seed is None else request.seed
        return await super()._speak(replace(request, seed=seed), sink)

    async def _synthesize(self, request: UtteranceRequest, piece: str, index: int) -> PieceSound:
        """A cancel stops the worker, wherever it ends this task."""
        stopped = threading.Event()
        try:
            work = partial(self._model.synthesize, request, piece, index, stopped=stopped.is_set)
            return await self._in_worker(work)
        finally:
            stopped.set()


@dataclass
class OfficialModel:
    """Everything blocks and belongs on one and the same worker: the random numbers are all the process's.

    ``model_id``: a Hugging Face id or a folder; ``revision``: a commit, branch or tag of it. ``offline``: use
    what is on disk, ask no network. ``max_frames``: no piece is longer; without it, its text says how long it
    may be.
    """

    model_id: str
    revision: str | None = None
    device: str = "auto"
    offline: bool = False
    max_frames: int | None = None
    _torch: Any = None
    _package: Any = None
    _reference: Any = None
    _markup: re.Pattern[str] = re.compile("(?!)")
    _stopped: Callable[[], bool] = lambda: False

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

        device = str(device_of(self.device))
        try:
            self._reference = self._package.Qwen3TTSModel.from_pretrained(
                self._source(), device_map=device, **self._precision(device)
            )
        except (OSError, ValueError) as error:
            place = "on this machine's disk" if self.offline else "on this machine's disk or at Hugging Face"
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
        self,
        request: UtteranceRequest,
        piece: str,
        index: int = 0,
        *,
        stopped: Callable[[], bool] = lambda: False,
    ) -> PieceSound:
        """``stopped`` is asked before each frame, from this thread; once it is true, this raises."""
        self._stopped = stopped
        began_s = time.perf_counter()
        budget_frames = self._budget_frames(piece, request.language)
        pcm = self._with_memory(lambda: self._generate(request, piece, index, budget_frames))
        most_samples = budget_frames * FRAME_SAMPLES
        within = np.clip(pcm[:most_samples], -1.0, 1.0)
        return PieceSound(within, time.perf_counter() - began_s, truncated=pcm.size > most_samples)

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
        offline = self.offline or hub.constants.HF_HUB_OFFLINE
        if Path(self.model_id).is_dir() or not (offline or self.revision):
            return self.model_id
        # Given an id, the package asks the hub even for what it has on disk, and for its newest codec.
        return str(hub.snapshot_download(self.model_id, revision=self.revision, local_files_only=offline))

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

    def _budget_frames(self, piece: str, language: str) -> int:
        frames = math.ceil(longest_speech_s(piece, language) * SAMPLE_RATE_HZ / FRAME_SAMPLES)
        return frames if self.max_frames is None else min(frames, self.max_frames)

    def _generate(
        self, request: UtteranceRequest, piece: str, index: int, budget_frames: int
    ) -> npt.NDArray[np.float32]:
        # A seed for each piece of each utterance's seed.
        digest = hashlib.sha256(f"{request.seed} {index}".encode()).digest()
        self._torch.manual_seed(int.from_bytes(digest[:8]) >> 1)
        # One frame more than allowed tells what was cut off from what just ended; of the tokens that it is
        # given, the package makes the last into no frame.
        [pcm], _ = self._reference.generate_voice_clone(
            self._plain(piece),
            language=request.language,
            voice_clone_prompt=[self._prompt_item(request.voice)],
            max_new_tokens=budget_frames + 2,
        )
        return np.asarray(pcm, np.float32)

    def _prompt_item(self, voice: VoicePrompt | None) -> Any:
        """With neither mode set, the package puts no speaker into the prompt."""
        make = self._package.VoiceClonePromptItem
        if voice is None:
            return make(None, self._torch.zeros(1), x_vector_only_mode=False, icl_mode=False)
        x_vector = self._torch.from_numpy(np.array(voice.tensors["x_vector"]))
        if not voice.tensors["icl"][0]:
            return make(None, x_vector, x_vector_only_mode=True, icl_mode=False)
        code = self._torch.from_numpy(np.array(voice.tensors["ref_code"])).to(self._reference.device)
        transcript = self._plain(voice.tensors["transcript"].tobytes().decode())
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


def _name_and_state(model_id: str, revision: str | None) -> tuple[str, str]:
    """A model's name for clients, without a path, and what distinguishes its weights from others."""
    folder = Path(model_id)
    if not folder.is_dir():
        return model_id, revision or ""
    files = [path.stat() for path in map(folder.joinpath, _WEIGHTS) if path.is_file()]
    stamps = [(file.st_size, file.st_mtime_ns) for file in files]
    return folder.resolve().name, hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
