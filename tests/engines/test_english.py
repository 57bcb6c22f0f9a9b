"""Texts that the preview engine accepts and refuses."""

import subprocess
import sys

import pytest
from hibari.g2p import G2P

from makima_tts.engines.preview import readable
from makima_tts.errors import InvalidText


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Now in Russian: \u041f\u0440\u0438\u0432\u0435\u0442.", "Cyrillic"),
        ("\u4f60\u597d", "Han"),
        ("\u3053\u3093\u306b\u3061\u306f", "Hiragana"),
        ("\uff76\uff85", "Katakana"),
        ("\uc548\ub155", "Hangul"),
        ("\u0645\u0631\u062d\u0628\u0627", "Arabic"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", "Devanagari"),
        ("\u05e9\u05dc\u05d5\u05dd", "Hebrew"),
        ("\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1", "Greek"),
    ],
)
def test_a_refusal_of_foreign_letters_names_their_script(text: str, script: str) -> None:
    with pytest.raises(InvalidText) as refusal:
        readable(text)
    assert script in refusal.value.message
    assert not set(text) & {char for char in refusal.value.message if not char.isascii()}
    assert refusal.value.message.isascii()


@pytest.mark.parametrize(
    "text",
    [
        "naïve café, Łódź, Straße, Ærø, Hà Nội",
        "5 µm, 3 Ω, π and the 1º and 2ª",
        "\uff21\uff22\uff23 in full width, \U0001d407\U0001d41e mathematical",
        "x² and ½, §4, 20 °C, €5 or £3 … “quoted”",
        "١٢٣",
        "\U0001f44b\U0001f3fd hello \u2764\ufe0f",
    ],
)
def test_characters_of_english_texts_are_accepted(text: str) -> None:
    assert readable(text) == text


def test_invisible_characters_do_not_split_a_word() -> None:
    assert readable("ha\u200br\u00adbo\u2060ur\u202e") == "harbour"


def test_a_text_cannot_inject_phonemes() -> None:
    read, markup = G2P(), "[hello](/wow/)"
    assert read(markup) == "wow"
    assert read(readable(markup)).startswith("(h")


def test_importing_the_engines_imports_no_model() -> None:
    script = "import sys, makima_tts.engines; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert not {"hibari", "onnxruntime", "torch"} & set(imported.split())
