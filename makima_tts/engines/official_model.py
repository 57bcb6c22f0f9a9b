"""The qwen-tts package with its model, on a worker thread.

In: pieces of text, reference clips, voices. Out: the sound of whole pieces, the tensors of voices. Does not
know: the event loop, chunks, utterances.

What the package decides stays as it decides it: its prompt, its sampling, its decoder. Three things are ours:
a bound on the frames of a piece, a way to stop in the middle of one, and a text that is nothing but text.
"""

import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from makima_tts.engines.whole_pieces import Spoken
from makima_tts.errors import GpuOutOfMemory, TtsUnavailable
from makima_tts.speech import VoiceReference
from makima_tts.text import longest_speech_s

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920

NOT_INSTALLED = (
    "The qwen-tts package is not installed here. It has an environment of its own: run `make venv-qwen-tts`, "
    "then `.venvs/qwen-tts/bin/makima-tts serve`."
)

Tensors = Mapping[str, npt.NDArray[np.generic]]
GiveUp = Callable[[], bool]
_Result = TypeVar("_Result")


class GivenUp(Exception):
    """Nobody waits for the rest of this piece."""


@dataclass(frozen=True, slots=True)
class Line:
    """One piece and how it is to be spoken. ``voice``: tensors of ``encode``, None for no speaker at all."""

    text: str = field(repr=False)
    language: str
    voice: Tensors | None
    seed: int
    index: int


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
        self._give_up: GiveUp = lambda: False

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
        self._be_ready()

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

    def say(self, line: Line, give_up: GiveUp = lambda: False) -> tuple[Spoken, bool]:
        """The sound of a piece, and whether it was cut off because it did not end in time.

        ``give_up`` is asked before each frame, from this thread; once it is true, this raises.
        """
        self._give_up = give_up
        began_s = time.perf_counter()
        budget_frames = self._budget_frames(line)
        pcm = self._with_memory(lambda: self._generate(line, budget_frames))
        most_samples = budget_frames * FRAME_SAMPLES
        spoken = Spoken(np.clip(pcm[:most_samples], -1.0, 1.0), time.perf_counter() - began_s)
        return spoken, pcm.size > most_samples

    def unload(self) -> None:
        self._reference = None

    def _precision(self, device: str) -> dict[str, object]:
        """bfloat16 needs hardware made for it; FlashAttention needs CUDA and its own package."""
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

    def _be_ready(self) -> None:
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
        if self._give_up():
            raise GivenUp

    def _budget_frames(self, line: Line) -> int:
        frames = math.ceil(longest_speech_s(line.text, line.language) * SAMPLE_RATE_HZ / FRAME_SAMPLES)
        return frames if self._max_frames is None else min(frames, self._max_frames)

    def _generate(self, line: Line, budget_frames: int) -> npt.NDArray[np.float32]:
        self._torch.manual_seed(_number_from(line.seed, line.index))
        # One frame more than allowed tells what was cut off from what just ended; of the tokens that it is
        # given, the package makes the last into no frame.
        [pcm], _ = self._reference.generate_voice_clone(
            self._plain(line.text),
            language=line.language,
            voice_clone_prompt=[self._prompt_item(line.voice)],
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
