"""What the preview engine reads of any text."""

import subprocess
import sys

import pytest
from hibari import Hibari
from hypothesis import example, given, settings, strategies as st

from makima_tts.engines.english import in_english
from makima_tts.engines.preview import VOICE
from makima_tts.text import pieces_of

MODEL = Hibari(voice=VOICE)


def phonemes(text: str) -> str:
    """What the model is told to speak."""
    return " ".join(MODEL.phonemize(in_english(text).text))


PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(before=PRINTABLE, after=PRINTABLE)
@example(before="9" * 250, after="th")
@example(before="", after="\u041f\u0440\u0438\u0432\u0435\u0442")
@example(before="$1,2,3.4 \u2460\u00b2\u2075 \u22125", after="\u03b1 5\u20ac a@b.org 3,14")
def test_any_text_with_an_english_word_has_that_word_spoken(before: str, after: str) -> None:
    pieces = pieces_of(f"{before} lantern {after}", "plain")
    assert any("l\u02c8\u00e6nt\u0259\u0279n" in phonemes(piece.text) for piece in pieces)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Now in Russian: \u041f\u0440\u0438\u0432\u0435\u0442.", "Cyrillic"),
        ("Or \u4f60\u597d", "Han"),
        ("Or \u3053\u3093\u306b\u3061\u306f", "Hiragana"),
        ("Or \uff76\uff85", "Katakana"),
        ("Or \uc548\ub155", "Hangul"),
        ("Or \u0645\u0631\u062d\u0628\u0627", "Arabic"),
        ("Or \u0928\u092e\u0938\u094d\u0924\u0947", "Devanagari"),
        ("Or \u05e9\u05dc\u05d5\u05dd", "Hebrew"),
        ("Or \u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1", "Greek"),
    ],
)
def test_words_in_foreign_letters_are_left_out_and_their_script_is_named(text: str, script: str) -> None:
    english = in_english(text)
    assert english.scripts == {script}
    assert english.text.strip(" .").isascii()
    assert english.text.startswith(text.partition(" ")[0])


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("It is \u22125 here", "It is minus 5 here"),
        ("x\u00b2, 10\u00b3 and 2\u2074\u00b2", "x squared , 10 cubed and 2 to the power of 42"),
        ("H\u2082O, \u2460 and \u246b, \u2776", "H 2 O, 1 and 12 , 1"),
        ("\u03b1 and \u0394, but 5 \u00b5m", "alpha and delta , but 5 \u00b5m"),
        ("3,14 and 1.234,56 and 1,234.5 and 1,2,3", "3.14 and 1234.56 and 1,234.5 and 1, 2, 3"),
        ("5\u20ac, 5 $ and \u00a310, 3 \u20bd, 7\u20ac.", "\u20ac5, $5 and \u00a310, 3 ruble , \u20ac7."),
        ("me@a.org or www.b.org/c", "me at a dot org or www dot b dot org slash c"),
        ("v1.2.3, e.g. 3.14 and main.py", "v1.2.3, e.g. 3.14 and main dot py"),
        ("1234567890123456", "1 2 3, 4 5 6, 7 8 9, 0 1 2, 3 4 5, 6,"),
        ("\u00bd cup, \u2163, \u0661\u0662\u0663", "1/2 cup, 4 , 123"),
        (
            "na\u00efve caf\u00e9, \u0141\u00f3d\u017a, 2\u00aa",
            "na\u00efve caf\u00e9, \u0141\u00f3d\u017a, 2\u00aa",
        ),
        ("ha\u200br\u00adbo\u2060ur\u202e", "harbour"),
        ("[hello](/wow/)", "(hello)(/wow/)"),
    ],
)
def test_numbers_symbols_and_addresses_are_read_in_words_that_the_model_knows(
    text: str, read_as: str
) -> None:
    english = in_english(text)
    assert " ".join(english.text.split()) == read_as
    assert not english.scripts
    assert phonemes(text)


def test_the_longest_piece_of_hostile_characters_is_read_in_linear_time() -> None:
    for unit in ("1,", "a.", "a@", "1.", "/", "\u00b2", "$ 1", "http://", "\u03b1 "):
        assert len(in_english(unit * 20_000).text) < 20_000 * 20


def test_importing_the_engines_imports_no_model() -> None:
    script = "import sys, makima_tts.engines; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert not {"hibari", "onnxruntime", "torch"} & set(imported.split())
