"""Ranks become the files of a tokenizer, and the other way about."""

import json
from base64 import b64encode
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.checkpoints.qwen_tokenizer import vocabulary_and_merges, write_qwen_tokenizer
from tests.checkpoints.tiny_tokenizer import byte_letters

GOLDEN = Path(__file__).parents[1] / "parity" / "golden" / "tokens_odd.safetensors"


def ranks_of(vocabulary: dict[str, int]) -> bytes:
    """As tiktoken writes them down: a token's bytes in base 64, and its rank."""
    bytes_of = {letter: byte for byte, letter in enumerate(byte_letters())}
    tokens = {bytes(bytes_of[letter] for letter in token): rank for token, rank in vocabulary.items()}
    return b"".join(b64encode(token) + b" %d\n" % rank for token, rank in tokens.items())


def test_merges_are_found_again_from_the_order_of_the_tokens(tmp_path: Path) -> None:
    """Those of Qwen's own vocabulary that the parity of texts needs."""
    part = json.loads(load_file(GOLDEN)["vocabulary"].numpy().tobytes())
    write_qwen_tokenizer(tmp_path, ranks_of(part["vocabulary"]))
    assert json.loads((tmp_path / "vocab.json").read_text()) == part["vocabulary"]
    assert (tmp_path / "merges.txt").read_text().splitlines() == part["merges"]


def test_of_several_ways_to_a_token_its_merge_is_the_one_that_merging_takes() -> None:
    """``abc`` from ``ab``, the earlier, and not from ``bc``."""
    tokens = {**{letter: index for index, letter in enumerate(byte_letters())}, "bc": 257, "ab": 256}
    tokens |= {"abc": 258, "abcabc": 259}
    merges = vocabulary_and_merges(ranks_of(tokens))[1]
    assert merges == ["a b", "b c", "ab c", "abc abc"]


def test_ranks_that_no_merging_leads_to_are_refused() -> None:
    tokens = {letter: index for index, letter in enumerate(byte_letters())}
    with pytest.raises(ValueError, match="token 256 is not made of earlier ones"):
        vocabulary_and_merges(ranks_of({**tokens, "abc": 256}))
