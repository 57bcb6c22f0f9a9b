# ruff: noqa: RUF001 - texts in many scripts
"""Where sentences end in each language: abbreviations, marks of other scripts, missing spaces."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.text import pieces_of
from makima_tts.text.segmenter import HARD_LIMIT_CHARS, SHORTEST_FORCED_CHARS, Segmenter


def cut(text: str, language: str = "Auto") -> str:
    return "|".join(piece.text for piece in pieces_of(text, "plain", language))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("English", "Mr. Smith met Dr. Brown and Prof. Green here.|They left at once."),
        (
            "English",
            "Acme Inc. Sales grew, |and Acme Ltd. Workers too.|It was in Jan. Then came Feb. Snow.|OK.",
        ),
        ("English", "See No. 5, p. 12, |pp. 3, vol. II, Fig. 2 and cf. Smith there.|No. That is wrong."),
        ("English", "It was three years ago.|Then it ended, at 3.14.|Then it began."),
        ("German", "Hr. Müller und Fr. Meier von der Muster GmbH. Köln grüßen.|Gut so."),
        ("German", "Vgl. Abb. 3, Nr. 5 und Bd. II, |z. B. Das Haus, u. a. Möbel.|Am 3. Jan. Morgens auch."),
        (
            "French",
            "M. Dupont et Mme. Durand sont là.|Le 5 févr. Nous partons.|Voir l’art. 3, p. 4, cf. Hugo.",
        ),
        (
            "French",
            "« Bonjour ! » dit-il.|« Ça va, toi ? »|Oui, très bien. »|Il dit : « Viens ! »|Ils partent.",
        ),
        ("Italian", "Mi disse: «Vieni qui!» |e poi andò via."),
        ("German", "Er sagte es.|»Hallo zusammen«, sagte er.|»Aha. Soso.«"),
        ("French", "La Cie. Martin vend en janv. Des livres.|C’est fini."),
        (
            "Spanish",
            "La Sra. García y el Sr. López trabajan en S.A. Nuevas.|Véase pág. 5 y art. 3, p. ej. Aquí.",
        ),
        ("Spanish", "Llegó en ene. Con nieve.|Vive junto al mar.|Es feliz."),
        ("Italian", "Il sig. Rossi e la sig.ra Bianchi salutano.|Il dott. Verdi no.|Vedi pag. 5 e art. 3."),
        ("Portuguese", "O Sr. Silva e a Profa. Souza chegaram.|Em jan. Choveu, cf. Pessoa."),
        ("Russian", "Проф. Иванов живёт на ул. Ленина.|См. рис. 5 и т. д. там.|В янв. Было холодно."),
        ("Chinese", "今天天气很好.|我们去公园玩吧!|你觉得怎么样?|很好很好很好."),
        ("Chinese", "文件.txt和example.com都在v1.2.3里｡|圆周率是3.14,对不对?|李博士是Dr. Li先生."),
        ("Chinese", "这个小城市的人口现在大约是1,000人,|我们都知道."),
        ("Japanese", "今日はいい天気です.|散歩に行きましょう｡|そうしますか?|ええ､そうします."),
        ("Japanese", "「こちらへどうぞ.」と彼女は言った.|静かな夜だった."),
        ("Korean", "안녕하세요 여러분.|만나서 반갑습니다!|잘 지내고 있나요?|네, 잘 지냅니다."),
        ("Korean", "버전은 v1.2.3이고 3.14입니다.|끝났습니다 여러분."),
    ],
)
def test_a_sentence_ends_where_a_reader_of_its_language_would_pause(language: str, text: str) -> None:
    whole = text.replace("|", "" if language in ("Chinese", "Japanese", "Korean") else " ").replace("  ", " ")
    assert cut(whole, language).replace(" |", "|") == text.replace(" |", "|")


@pytest.mark.parametrize(
    "text",
    [
        "She has an Ed.D. and a Ph.D, |he is a Psy.D. student.|That is all.",
        "Here is one.|Two comes now.|Three is last.",
        "Is it really?|Yes it is!|That is so…|Not so.",
        "It was good.|今天天气很好.|And so it ended.",
        "مرحبا بكم.|كيف حالكم؟|أنا بخير اليوم.",
        "Привет всем.|Как дела?|Хорошо всё.",
        "It is in example.com, |README.md, v1.2.3, at 3.14, e.g. here, System.Out.print, a/b.Net, U.S.Army.",
        "Ask Dr.Smith or Mr.Brown at me.You@example.Org, |and J.R.R.Tolkien about f(x.Y) now.",
    ],
)
def test_a_missing_space_is_no_wall_and_what_is_one_word_stays_whole(text: str) -> None:
    assert cut(re.sub(r"(?<! )\|", "", text).replace("|", "")) == text.replace(" |", "|")


def test_a_text_of_an_unknown_language_has_the_abbreviations_that_are_no_words_elsewhere() -> None:
    assert cut("Hr. Müller kam.|Il dott. Verdi.|Then on.|It is art.|Years ago.|Yes.".replace("|", " ")) == (
        "Hr. Müller kam.|Il dott. Verdi.|Then on.|It is art.|Years ago.|Yes."
    )


WORDS = st.sampled_from(
    ["Dr. Smith", "z. B.", "1 000", "3.14", "example.com", "word", "Mr. A", "今2024年", "a-b"]
)
law = settings(derandomize=True, max_examples=30, deadline=None)


@law
@given(st.lists(WORDS, min_size=80, max_size=150), st.sampled_from([" ", "  "]))
def test_a_forced_cut_is_never_within_a_word_a_number_or_an_abbreviation(
    words: list[str], space: str
) -> None:
    pieces = pieces_of(space.join(words), "plain", "German")
    assert all(len(piece.text) <= HARD_LIMIT_CHARS for piece in pieces)
    spoken = [
        word for piece in pieces for word in re.findall(r"Dr\. Smith|z\. B\.|1 000|Mr\. A|\S+", piece.text)
    ]
    assert spoken == words


@law
@given(st.text("ab今。.,/9 ", min_size=400, max_size=900))
def test_every_text_beyond_the_limit_is_cut_however_it_is_written(text: str) -> None:
    pieces = pieces_of(text, "plain")
    assert all(len(piece.text) <= HARD_LIMIT_CHARS for piece in pieces)
    segmenter = Segmenter("plain")
    assert [one for char in text for one in segmenter.feed(char)] + segmenter.flush() == pieces
    for piece in pieces[:-1]:
        before, after = text[piece.end - 1], text[piece.end]
        within = text[piece.end - SHORTEST_FORCED_CHARS : piece.end]
        if before.isalnum() and after.isalnum() and before < "\u2e80":
            assert all(a.isalnum() and b.isalnum() for a, b in pairwise(within))
