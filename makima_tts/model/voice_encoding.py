"""Voice encoding: everything of a prompt that depends on the voice alone.

In: reference audio and its transcript. Out: named arrays, to be stored; from them, rows and codec state that
an utterance starts with. Does not know: voices' names, caches, slots.

T reference frames · Q codebooks · N transcript tokens · E talker's hidden size.

The work is done in slices, a generator that yields between them, so that utterances are not delayed.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from makima_tts.model.devices import to_device
from makima_tts.model.prompt import VoiceRows
from makima_tts.model.reference_audio import APPENDED_SILENCE_S, prepare_reference, with_silence
from makima_tts.model.speech_model import SpeechModel
from makima_tts.speech import VoiceReference

Arrays = dict[str, npt.NDArray[np.generic]]

_CODES = "codes"
_X_VECTOR = "x_vector"
_TRANSCRIPT = "transcript_rows"
_FRAMES = "frame_rows"
# The decoder's state by its fields. Stored prompts keep the names that they have always had.
_CODEC = {"position": "codec.position", "conv_state": "codec.history", "keys_values": "codec.keys_values"}
_FRAMES_PER_SLICE = 1


@dataclass(frozen=True, slots=True)
class EncodedVoice:
    """A voice on its device. ``codec``: the decoder's state after the reference, by name; empty without."""

    rows: VoiceRows = field(repr=False)
    codec: Mapping[str, Tensor] = field(repr=False)


def encode_voice(
    model: SpeechModel, reference: VoiceReference, *, appended_silence_s: float = APPENDED_SILENCE_S
) -> Generator[None, None, Arrays]:
    """Returns ``x_vector`` float32 [E]; with a transcript (mode icl) also the voice's other rows.

    That is ``codes`` int64 [T, Q], ``frame_rows`` float32 [T, E] (their summed embeddings),
    ``transcript_rows`` float32 [N, E] (projected text), and the codec's state after these frames.
    """
    speech = prepare_reference(reference.pcm, reference.sample_rate_hz).to(model.device)
    yield
    x_vector = yield from model.speaker_encoder.embed(speech)
    arrays = {_X_VECTOR: _array(x_vector)}
    if reference.mode == "icl":
        codes = yield from model.codec_encoder.encode(with_silence(speech, appended_silence_s))
        ids = model.tokenizer.encode(reference.transcript or "")
        arrays |= {
            _CODES: _array(codes),
            _FRAMES: _array(model.prompts.frame_rows(codes)),
            _TRANSCRIPT: _array(model.prompts.text_rows(ids)),
        }
        state = yield from _codec_state_after(model, codes)
        arrays |= {_CODEC[name]: _array(tensor) for name, tensor in state.items()}
    return arrays


def embed_speaker(
    model: SpeechModel, pcm: npt.NDArray[np.float32]
) -> Generator[None, None, npt.NDArray[np.float32]]:
    """The x-vector of some speech at the model's own rate: float32 [samples] → float32 [E]."""
    x_vector = yield from model.speaker_encoder.embed(torch.from_numpy(pcm).to(model.device))
    return np.asarray(_array(x_vector), np.float32)


def _codec_state_after(model: SpeechModel, codes: Tensor) -> Generator[None, None, Mapping[str, Tensor]]:
    """The codec's state after these frames."""
    state = model.codec.new_state(1)
    slots = torch.zeros(1, dtype=torch.int64, device=model.device)
    for frames in torch.split(codes, _FRAMES_PER_SLICE):
        model.codec.decode(frames.unsqueeze(0), state, slots)
        yield
    return state.row(0)


def _array(tensor: Tensor) -> npt.NDArray[np.generic]:
    """numpy has no bfloat16: real numbers are stored as float32, which holds them exactly."""
    exact = tensor.float() if tensor.is_floating_point() else tensor
    array: npt.NDArray[np.generic] = exact.cpu().numpy()
    return array


def voice_from(model: SpeechModel, arrays: Mapping[str, npt.NDArray[np.generic]]) -> EncodedVoice:
    """The arrays of ``encode_voice``, on the model's device and in its precision."""

    def tensor(name: str) -> Tensor | None:
        if name not in arrays:
            return None
        loaded = to_device(torch.from_numpy(np.array(arrays[name])), model.device)
        return loaded.to(model.dtype) if loaded.is_floating_point() else loaded

    codec = {field: tensor(name) for field, name in _CODEC.items()}
    return EncodedVoice(
        VoiceRows(tensor(_X_VECTOR), tensor(_TRANSCRIPT), tensor(_FRAMES)),
        {field: state for field, state in codec.items() if state is not None},
    )


def similarity(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """The cosine of two x-vectors: 1 is the same speaker as far as the encoder can tell."""
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def x_vector_of(arrays: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
    """float32 [E]."""
    return np.asarray(arrays[_X_VECTOR], np.float32)
