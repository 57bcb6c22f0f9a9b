"""Text becomes ids: every text, the same ids alone and in the prompt, and no damaged file unnoticed."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from makima_tts.errors import TtsUnavailable
from makima_tts.model.tokenizer import TextTokenizer
from makima_tts.text import clean
from tests.checkpoints.tiny_tokenizer import byte_letters, write_tokenizer
from tests.words import ids_of_words

FIRST_SPECIAL = 400
TURN, TURN_END = FIRST_SPECIAL + 1, FIRST_SPECIAL + 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>")

# What a keyboard gives, with what the template and the splitting of words are sensitive to.
TEXTS = st.text(
    st.one_of(
        st.sampled_from(" \t\n\r'\u2019.,!aAsStTeE09ß日é\u0301\u3000\u2028\u200b<|>_"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)
law = settings(derandomize=True, max_examples=200, deadline=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(made, first_special_id=FIRST_SPECIAL)
    return made


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> TextTokenizer:
    return TextTokenizer.load(folder)


@pytest.fixture(scope="module")
def letters(folder: Path) -> dict[int, str]:
    return {number: token for token, number in json.loads((folder / "vocab.json").read_text()).items()}


@pytest.fixture(scope="module")
def whole(folder: Path) -> Tokenizer:
    """As the reference has it: it knows special tokens, and is given the whole template."""
    bpe = Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    bpe.normalizer = NFC()
    words = TextTokenizer.load(folder)._bpe.pre_tokenizer[0]
    assert isinstance(words, Split)
    bpe.pre_tokenizer = Sequence([words, ByteLevel(False, use_regex=False)])
    bpe.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return bpe


@law
@given(text=TEXTS)
def test_ids_spell_the_text_and_nothing_else(
    tokenizer: TextTokenizer, letters: dict[int, str], text: str
) -> None:
    bytes_of = {letter: byte for byte, letter in enumerate(byte_letters())}
    spelt = bytes(bytes_of[letter] for number in tokenizer.encode(text) for letter in letters[number])
    assert spelt.decode() == unicodedata.normalize("NFC", text.lstrip())


@law
@given(text=TEXTS)
def test_a_text_has_the_ids_that_it_has_in_the_template(
    tokenizer: TextTokenizer, whole: Tokenizer, text: str
) -> None:
    text = text.lstrip()
    ids = whole.encode(f"<|im_start|>assistant\n{text}<|im_end|>\n<|im_start|>assistant\n").ids
    assert ids[:3] == list(tokenizer.role_ids)
    assert ids[3:-5] == tokenizer.encode(text)


@law
@given(text=TEXTS.map(clean))
def test_a_text_that_comes_word_by_word_has_the_ids_of_the_whole(tokenizer: TextTokenizer, text: str) -> None:
    assert ids_of_words(tokenizer, text) == tokenizer.encode(text)


@pytest.mark.parametrize("token", SPECIAL)
def test_a_special_token_that_a_user_types_is_plain_text(tokenizer: TextTokenizer, token: str) -> None:
    ids = tokenizer.encode(f"Say {token} aloud.{token}")
    assert max(ids) < FIRST_SPECIAL
    assert len(ids) > 2 * len(token)
    assert tokenizer.largest_id == TURN


def test_white_space_before_a_text_is_dropped_and_behind_it_stays(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode(" \n\t\u3000the assistant") == tokenizer.encode("the assistant")
    assert len(tokenizer.encode("the assistant \n")) == len(tokenizer.encode("the assistant")) + 2
    assert tokenizer.encode("  \n") == tokenizer.encode("") == []


def test_marks_are_composed_before_they_are_spelt(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode("cafe\u0301") == tokenizer.encode("café")


def test_half_of_a_character_is_spelt_as_a_question_mark(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a?b")


def test_the_role_is_three_ids(tokenizer: TextTokenizer, letters: dict[int, str]) -> None:
    turn, role, new_line = tokenizer.role_ids
    assert (turn, letters[role], letters[new_line]) == (TURN, "assistant", byte_letters()[10])


def test_a_heading_of_the_merges_is_none_of_them(folder: Path, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, first_special_id=FIRST_SPECIAL)
    merges = (tmp_path / "merges.txt").read_text()
    (tmp_path / "merges.txt").write_text("#version: 0.2\r\n" + merges.replace("\n", "\r\n"))
    headed = TextTokenizer.load(tmp_path)
    assert headed.encode("the assistant of") == TextTokenizer.load(folder).encode("the assistant of")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("vocab.json", None, "lacks vocab.json"),
        ("vocab.json", "{", "vocab.json is damaged"),
        ("vocab.json", "[1, 2]", "vocab.json is no list of tokens"),
        ("vocab.json", '{"a": "b"}', "vocab.json is no list of tokens"),
        ("vocab.json", '{"a": 0}', "vocab.json lacks tokens of single bytes"),
        ("merges.txt", None, "lacks merges.txt"),
        ("merges.txt", "a b c\n", "merges.txt is damaged"),
        ("merges.txt", "nothing like-that\n", "merges.txt is damaged"),
        ("merges.txt", "", "vocab.json is not Qwen's"),
        ("tokenizer_config.json", None, "lacks tokenizer_config.json"),
        ("tokenizer_config.json", "x", "tokenizer_config.json names no added tokens"),
        ("tokenizer_config.json", "{}", "tokenizer_config.json names no added tokens"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"5": {"content": "<s>"}}}', "lacks the token"),
    ],
)
def test_a_fault_is_named_by_its_file(name: str, content: str | None, words: str, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, first_special_id=FIRST_SPECIAL)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(TtsUnavailable, match=words) as refused:
        TextTokenizer.load(tmp_path)
    assert str(tmp_path) not in refused.value.message
