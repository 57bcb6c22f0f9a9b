"""A folder becomes a checkpoint, or a sentence that names what is wrong with it."""

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from makima_tts.errors import TtsUnavailable
from makima_tts.model.checkpoint.folder import Checkpoint, unexplained
from makima_tts.model.checkpoint.tensors import TensorFiles, Weights
from makima_tts.model.speech_model import SpeechModel
from tests.checkpoints import SHAPES
from tests.checkpoints.models import checkpoint_folder

CPU = torch.device("cpu")
MODEL, CODEC, INDEX = (
    "model.safetensors",
    "speech_tokenizer/model.safetensors",
    "model.safetensors.index.json",
)
NORM = "talker.model.norm.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of the test's own."""
    return Path(shutil.copytree(checkpoint_folder("odd"), tmp_path / "checkpoint"))


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """The same file but for what ``change`` does to its tensors."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def configure(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def shard(folder: Path, count: int) -> None:
    """The model's tensors in several files, and the index that says where each is."""
    tensors = load_file(folder / MODEL)
    (folder / MODEL).unlink()
    places: dict[str, str] = {}
    for number in range(count):
        name = f"model-{number + 1:05}-of-{count:05}.safetensors"
        part = dict(list(tensors.items())[number::count])
        save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def load(folder: Path, dtype: torch.dtype = torch.float32) -> SpeechModel:
    return SpeechModel.load(Checkpoint.open(folder), CPU, dtype, positions=64)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_tensor_is_taken_or_known_not_to_be_needed(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_out: list[Weights] = []

    def watched(give: Callable[..., Weights]) -> Callable[..., Weights]:
        def giving(*arguments: Any) -> Weights:
            handed_out.append(give(*arguments))
            return handed_out[-1]

        return giving

    monkeypatch.setattr(Checkpoint, "model_weights", watched(Checkpoint.model_weights))
    monkeypatch.setattr(Checkpoint, "codec_weights", watched(Checkpoint.codec_weights))
    load(checkpoint_folder(shape))
    assert len(handed_out) == 2
    assert unexplained(*handed_out) == []
    assert handed_out[0].untaken() == []


def test_a_tensor_that_no_such_model_has_is_named(folder: Path) -> None:
    rewrite(folder / MODEL, lambda tensors: tensors.update({"talker.model.layers.0.lora_A": torch.ones(2)}))
    weights = Checkpoint.open(folder).model_weights(CPU, torch.float32)
    assert "talker.model.layers.0.lora_A" in unexplained(weights.within("talker.model.layers.0"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_come_as_they_are_wanted(dtype: torch.dtype) -> None:
    weights = Checkpoint.open(checkpoint_folder("odd")).model_weights(CPU, dtype)
    stored = load_file(checkpoint_folder("odd") / MODEL)[NORM]
    taken = weights.within("talker.model").take("norm.weight", *stored.shape)
    assert taken.dtype == dtype
    assert torch.equal(taken, stored.to(dtype))
    assert weights.as_dtype(torch.float64).take(NORM, *stored.shape).dtype == torch.float64


def test_weights_outlive_their_file(folder: Path) -> None:
    """Writing another checkpoint over the file must not change or crash the running model."""
    weights = Checkpoint.open(folder).model_weights(CPU, torch.bfloat16)
    taken = weights.take(NORM, 80)
    before = taken.clone()
    (folder / MODEL).write_bytes(bytes((folder / MODEL).stat().st_size))
    assert torch.equal(taken, before)


def test_progress_rises_from_nothing_to_one() -> None:
    heard: list[float] = []
    SpeechModel.load(
        Checkpoint.open(checkpoint_folder("odd")), CPU, torch.float32, positions=64, progress=heard.append
    )
    assert heard == sorted(heard)
    assert (heard[0] < 0.1, heard[-1]) == (True, 1.0)


def test_progress_goes_by_bytes(folder: Path) -> None:
    heard: list[float] = []
    weights = Checkpoint.open(folder).model_weights(CPU, torch.float32, heard.append)
    text = load_file(folder / MODEL)["talker.model.text_embedding.weight"]
    weights.take("talker.model.text_embedding.weight", *text.shape)
    weights.take("talker.model.text_embedding.weight", *text.shape)
    assert heard == [pytest.approx(2 * text.numel() / (folder / MODEL).stat().st_size, rel=0.05)]


def test_shards_are_one_model(folder: Path) -> None:
    whole = load(checkpoint_folder("odd"))
    shard(folder, 3)
    parts = load(folder)
    assert torch.equal(parts.prompts.eos, whole.prompts.eos)
    assert torch.equal(parts.prompts.bos, whole.prompts.bos)


def test_whoever_asks_twice_gets_the_same_fingerprint(folder: Path) -> None:
    assert Checkpoint.open(folder).fingerprint == Checkpoint.open(checkpoint_folder("odd")).fingerprint


@pytest.mark.parametrize("part", [MODEL, CODEC])
def test_any_tensor_that_differs_makes_another_fingerprint(part: str, folder: Path) -> None:
    before = Checkpoint.open(folder).fingerprint
    seen = {before}
    for name, tensor in list(load_file(folder / part).items())[::29]:
        shutil.copy(checkpoint_folder("odd") / part, folder / part)
        rewrite(folder / part, lambda tensors, n=name, t=tensor: tensors.update({n: t + 1}))  # type: ignore[misc]
        seen.add(Checkpoint.open(folder).fingerprint)
    assert len(seen) == 1 + len(range(0, len(load_file(folder / part)), 29))


@pytest.mark.parametrize("name", ["config.json", "speech_tokenizer/config.json", "tokenizer_config.json"])
def test_a_configuration_that_differs_makes_another_fingerprint(name: str, folder: Path) -> None:
    before = Checkpoint.open(folder).fingerprint
    configure(folder / name, note="another")
    assert Checkpoint.open(folder).fingerprint != before


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.float64], ids=str)
def test_quantized_weights_are_refused(dtype: torch.dtype, folder: Path) -> None:
    rewrite(folder / MODEL, lambda tensors: tensors.update({NORM: tensors[NORM].to(dtype)}))
    with pytest.raises(TtsUnavailable, match=rf"{MODEL}: {NORM} is of type .*quantized"):
        load(folder)


def test_a_tensor_that_is_missing_is_named(folder: Path) -> None:
    rewrite(folder / CODEC, lambda tensors: tensors.pop("decoder.pre_conv.conv.bias"))
    with pytest.raises(TtsUnavailable, match=rf"{CODEC} lacks the tensor decoder\.pre_conv\.conv\.bias"):
        load(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder: Path) -> None:
    rewrite(folder / MODEL, lambda tensors: tensors.update({NORM: torch.ones(81)}))
    with pytest.raises(TtsUnavailable, match=rf"{MODEL}: {NORM} has the shape \[81\].*says \[80\]"):
        load(folder)


@pytest.mark.parametrize("name", [MODEL, CODEC])
@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (0, "damaged or incomplete"),
        (7, "damaged or incomplete"),
        (900, "damaged or incomplete"),
        (-1, "it ends before .* does"),
        (0.5, "it ends before .* does"),
    ],
)
def test_a_file_that_was_cut_short_says_so(name: str, keep: float, words: str, folder: Path) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(TtsUnavailable, match=rf"{name} is (in|damaged or in)complete") as refused:
        Checkpoint.open(folder)
    assert refused.match(words)
    assert refused.match("download it again")


def header(entries: object) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 200,
        header(b"{" * 5000),
        header(b"[" * 50_000),
        header([]),
        header({"a": 1}),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})[:-1] + b" ",
        header({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}) + bytes(4),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}) + bytes(8),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + bytes(5),
        pickle.dumps({"a": 1}),
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_no_safetensors_file_is_refused(content: bytes, folder: Path) -> None:
    (folder / CODEC).write_bytes(content)
    with pytest.raises(TtsUnavailable, match=rf"{CODEC} is damaged or incomplete; download it again"):
        Checkpoint.open(folder)


def test_no_header_that_was_tampered_with_escapes_as_anything_but_a_sentence(tmp_path: Path) -> None:
    draw = random.Random(5)
    names = [NORM, "talker.codec_head.weight", "speaker_encoder.fc.conv.bias"]
    save_file({name: torch.ones(3, 2) for name in names}, tmp_path / MODEL)
    whole = (tmp_path / MODEL).read_bytes()
    refusals = []
    for _ in range(300):
        tampered = bytearray(whole)
        tampered[draw.randrange(len(whole) - 72)] = draw.choice(b'\x00\xff"{}[],:0-9.eE')
        (tmp_path / MODEL).write_bytes(tampered)
        try:
            files = TensorFiles.open(tmp_path, (MODEL,), MODEL)
            assert all(files.shape(name) is not None for name in files.names())
        except TtsUnavailable as error:
            refusals.append(error.message)
    assert len(refusals) > 100
    assert all(MODEL in words for words in refusals)


FILES = (
    "config.json",
    "generation_config.json",
    "merges.txt",
    MODEL,
    "speech_tokenizer/config.json",
    CODEC,
    "tokenizer_config.json",
    "vocab.json",
)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(TtsUnavailable, match=rf"lacks {name}") as refused:
        Checkpoint.open(folder)
    assert str(folder) not in refused.value.message


def test_a_missing_shard_is_named(folder: Path) -> None:
    shard(folder, 2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(TtsUnavailable, match="lacks model-00002-of-00002"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    "index",
    ["{", "[]", '{"weight_map": {"a": "../other.safetensors"}}', '{"weight_map": {"a": "weights.bin"}}'],
)
def test_an_index_that_makes_no_sense_is_refused(index: str, folder: Path) -> None:
    (folder / MODEL).unlink()
    (folder / INDEX).write_text(index)
    with pytest.raises(TtsUnavailable, match=INDEX):
        Checkpoint.open(folder)


class Trap:
    """Unpickled, it would fail the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was opened",)


def test_pickles_are_not_opened(folder: Path) -> None:
    (folder / MODEL).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(TtsUnavailable, match="a pickle, which can run code"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        (
            "config.json",
            {"tts_model_type": "custom_voice"},
            "config.json is not .*: tts_model_type: .*'base'",
        ),
        ("config.json", {"model_type": "qwen2"}, "config.json is not .*: model_type: .*'qwen3_tts'"),
        ("config.json", {"tokenizer_type": "qwen3_tts_tokenizer_25hz"}, "tokenizer_type: .*_12hz'"),
        ("config.json", {"im_start_token_id": 77}, "do not belong to its config.json"),
        ("config.json", {"tts_eos_token_id": 5000}, "do not belong to its config.json"),
        ("speech_tokenizer/config.json", {"model_type": "qwen3_tts_tokenizer_25hz"}, "model_type: .*_12hz'"),
        ("speech_tokenizer/config.json", {"encoder_valid_num_quantizers": 8}, "number of codebooks"),
        ("generation_config.json", {"temperature": 0}, "generation_config.json is not .*: temperature"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(
    name: str, fields: dict[str, object], words: str, folder: Path
) -> None:
    configure(folder / name, **fields)
    with pytest.raises(TtsUnavailable, match=words) as refused:
        Checkpoint.open(folder)
    assert refused.match("Set TTS_MODEL_ID|download it again")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(TtsUnavailable, match="not there; check TTS_MODEL_ID") as refused:
        Checkpoint.open(tmp_path / "nowhere")
    assert "nowhere" not in refused.value.message
