"""Instructions to a voice, tags, formulas and signs at the beginning of a line."""

import pytest

from tests.text.cleaned import spoken, spoken_in_parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '<?xml version="1.0"?><speak>Hello <emphasis level="strong">you</emphasis>!</speak>',
            "Hello you!",
        ),
        ('Wait <break time="500ms"/>here, <break strength="weak" />and there', "Wait \nhere, \nand there"),
        ("<p><s>One.</s><s>Two.</s></p><p>Three.</p>", "One. Two. \n\nThree."),
        ('<prosody\n rate="slow"\n pitch = "+2st">Slowly</prosody> now', "Slowly now"),
        ('The <sub alias="World Wide Web">WWW</sub> and H<sub>2</sub>O', "The World Wide Web and H2O"),
        (
            '<say-as interpret-as="digits">12</say-as> <phoneme alphabet="ipa" ph="x">lochs</phoneme>',
            "12 lochs",
        ),
        ('<voice name="a"><lang xml:lang="fr-FR">Bonjour</lang><mark name="m"/></voice>', "Bonjour"),
        ('<amazon:effect name="whispered">Psst</amazon:effect> <mstts:express-as style="sad">no', "Psst no"),
        ('<audio src="https://a.org/b.mp3">a dog barks</audio>', "a dog barks"),
        ('<customer id="5">Ann</customer> is <vip/>here', "Ann is here"),
        ("Press <enter>, <your name here> or List<int>now", "Press enter, your name here or List int now"),
        ("<script>alert(1)</script>Hello <!DOCTYPE html>there", "Hello there"),
    ],
)
def test_tags_are_not_spoken(text: str, expected: str) -> None:
    assert spoken(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Let $x^2$ be $a_1 + b$ or $\\frac{a}{b}$.", "Let x^2 be a_1 + b or \\frac{a}{b}."),
        (
            "The $speed$ of $5$ is \\(v = d/t\\), and \\[ E = mc^2 \\]",
            "The speed of 5 is v = d/t, and E = mc^2",
        ),
        ("$$\na + b\n$$", "a + b"),
        ("$\\text{some words}$ and $\\alpha$", "\\text{some words} and \\alpha"),
    ],
)
def test_formulas_lose_their_delimiters(text: str, expected: str) -> None:
    assert spoken(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $10, or $5-$10, even $1,000.50.",
        "From $5 to 10$ a month; $3M or US$5/A$6.",
        "Set $HOME and $PATH, or $5/month",
        "It is $5. And $7! So $",
    ],
)
def test_prices_keep_their_signs(text: str) -> None:
    assert spoken(text) == text


def test_a_price_is_spoken_without_waiting_for_the_rest_of_its_sentence() -> None:
    assert spoken_in_parts("It costs $5 a")[0] == "It costs $5 a"


@pytest.mark.parametrize("sign", [*"✓✗✔✅❌➜→⇒•▶►★⚠☐☑●○■◆⭐", "\u2139", "⚠\ufe0f", "✓✓"])
def test_signs_at_the_beginning_of_a_line_are_not_spoken(sign: str) -> None:
    assert spoken(f"{sign} Done\n- {sign} Next") == "Done\nNext"
    assert spoken(f"{sign} Done") == "Done"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Wait [pause:1s] here. [pause] So (pause) [[slnc 500]] <#0.5#> it",
            "Wait \n here. \n So \n \n \n it",
        ),
        ("[laughs] Oh [softly] no (sighs) [clears throat] yes", "Oh no yes"),
        ("*laughs* Well. *sighs heavily* Yes.", "Well. Yes."),
        (
            "He *laughs* at it. [sic] (see below) [laughs](https://a.org)",
            "He laughs at it. [sic] (see below) laughs",
        ),
    ],
)
def test_a_pause_is_one_and_sounds_that_no_engine_makes_are_left_out(text: str, expected: str) -> None:
    assert spoken(text) == expected
