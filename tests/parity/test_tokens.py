"""Token ids of three hundred texts equal the reference's."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from makima_tts.model.tokenizer import TextTokenizer
from makima_tts.text import clean
from tests.checkpoints.models import checkpoint_folder
from tests.checkpoints.tiny_tokenizer import write_tokenizer_files
from tests.words import ids_of_words

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(HERE / "golden" / "tokens_odd.safetensors")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    lines = (HERE / "texts.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.fixture(scope="module", params=["small", "qwen"])
def named(
    request: pytest.FixtureRequest, golden: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, TextTokenizer]:
    """The tokenizer of the small checkpoints, and the part of Qwen's that the texts can use."""
    if request.param == "small":
        return "small", TextTokenizer.load(checkpoint_folder("odd"))
    folder = tmp_path_factory.mktemp("qwen")
    part = json.loads(golden["vocabulary"].numpy().tobytes())
    write_tokenizer_files(folder, part["vocabulary"], part["merges"])
    return "qwen", TextTokenizer.load(folder)


def test_every_text_has_the_ids_of_the_reference(
    named: tuple[str, TextTokenizer], golden: dict[str, Tensor], texts: list[str]
) -> None:
    name, tokenizer = named
    expected = list(split(golden[f"{name}.ids"], golden[f"{name}.lengths"]))
    made = [tokenizer.encode(text) for text in texts]
    assert len(made) == len(expected) == 300
    differ = [text for text, ours, theirs in zip(texts, made, expected, strict=True) if ours != theirs]
    assert differ == []


def test_every_text_has_the_same_ids_when_it_arrives_word_by_word(
    named: tuple[str, TextTokenizer], texts: list[str]
) -> None:
    for text in map(clean, texts):
        assert ids_of_words(named[1], text) == named[1].encode(text)


def test_the_role_has_the_ids_of_the_reference(
    named: tuple[str, TextTokenizer], golden: dict[str, Tensor]
) -> None:
    name, tokenizer = named
    role = golden[f"{name}.role"].tolist()
    # Ids of special tokens follow from the whole vocabulary, and only a part of Qwen's is here.
    assert list(tokenizer.role_ids[1:]) == role[1:]
    if name == "small":
        assert tokenizer.role_ids[0] == role[0]


def test_the_texts_use_a_large_part_of_the_vocabulary(golden: dict[str, Tensor]) -> None:
    """Checks the test data: on bytes, or on a few tokens, any tokenizer would agree."""
    assert len(set(golden["qwen.ids"].tolist())) > 1800
    assert golden["qwen.ids"].numel() < golden["small.ids"].numel() / 2


def split(ids: Tensor, lengths: Tensor) -> Iterator[list[int]]:
    rest = iter(ids.tolist())
    for length in lengths.tolist():
        yield list(islice(rest, length))
