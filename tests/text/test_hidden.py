# ruff: noqa: RUF001 - marks of language models in other scripts
"""What a language model writes for itself or for a program is not spoken."""

import re
import time

import pytest
from hypothesis import example, given, settings, strategies as st

from makima_tts.text import Segmenter, pieces_of
from tests.text.cleaned import a_cleaner, pieces_in_parts, split, spoken, spoken_in_parts

THOUGHT = "Let me see. 1 < 2, so it is **so**.\n\n- Or is it?\n"
# Blocks as models emit them, around a thought.
BLOCKS = {
    "DeepSeek, Qwen": "<think>{}</think>",
    "prompted": "<thinking>{}</thinking>",
    "with attributes": '<reasoning effort="low">{}</reasoning >',
    "in capitals": "<Think>{}</THINK>",
    "Seed": "<seed:think>{}</seed:think>",
    "Mistral": "[THINK]{}[/THINK]",
    "Kimi": "◁think▷{}◁/think▷",
    "Gemma": "<|channel>thought\n{}<channel|>",
    "Command": "<|START_THINKING|>{}<|END_THINKING|>",
    "OpenThinker": "<|begin_of_thought|>{}<|end_of_thought|>",
    "gpt-oss": "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "gpt-oss calls": (
        "<|start|>assistant<|channel|>commentary to=functions.look <|constrain|>json<|message|>{}<|call|>"
        "<|start|>assistant<|channel|>final<|message|>"
    ),
    "Hermes, Qwen": '<tool_call>\n{{"name": "look"}}{}</tool_call>',
    "Llama": '<function=look>{{"at": "{}"}}</function>',
    "Llama code": "<|python_tag|>look.call({})<|eom_id|>",
    "DeepSeek calls": "<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>",
    "DeepSeek markup": (
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f">{}</｜DSML｜invoke></｜DSML｜tool_calls>'
    ),
    "Kimi calls": (
        "<|tool_calls_section_begin|><|tool_call_begin|>look:0{}<|tool_call_end|><|tool_calls_section_end|>"
    ),
    "MiniMax": '<minimax:tool_call><invoke name="look">{}</invoke></minimax:tool_call>',
    "Gemma calls": "<|tool_call>call:look{}<tool_call|>",
}

law = settings(derandomize=True, max_examples=60, deadline=None)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_is_left_out_wherever_it_stands(block: str) -> None:
    hidden = block.format(THOUGHT)
    assert spoken(f"{hidden}It is done.") == "It is done."
    assert spoken(f"\n {hidden}\n\nIt is done.") == "It is done."
    assert spoken(f"Wait a moment.{hidden}It is done.") == "Wait a moment.\nIt is done."
    assert spoken(f"{hidden}{hidden}It is done.") == "It is done."


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_text_of_a_block_alone_has_no_pieces(block: str) -> None:
    assert pieces_of(block.format(THOUGHT)) == []


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_an_unclosed_block_is_left_out_at_the_beginning_only(block: str) -> None:
    opening = block.partition("{}")[0].format()
    assert spoken(f"{opening}Let me see. It is") == ""
    assert spoken(f"Wait. {opening}The rest is spoken.").endswith("The rest is spoken.")
    assert spoken(f"Wait. {opening}The rest is spoken.").startswith("Wait.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("</think>It is done.", "It is done."),
        ("It is</think> done.", "It is done."),
        ("<|im_start|>assistant\nIt is done.<|im_end|>", "It is done."),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nIt is done.<|eot_id|>", "It is done."),
        ("<start_of_turn>model\nIt is done.<end_of_turn>", "It is done."),
        ("<s>[INST]It is done.[/INST]</s>", "It is done."),
        ("<|channel|>final<|message|>It is done.<|return|>", "It is done."),
        ("<think>Hm.</think><answer>It is done.</answer>", "It is done."),
        ('Sure. [TOOL_CALLS]look[ARGS]{"at": "it"}', "Sure."),
        ('[TOOL_CALLS] [{"name": "look"}]', ""),
        ("See [TOOL_CALLS] in the manual.", "See in the manual."),
        (
            "The `<think>` tag ends with `</think>`, as usual.",
            "The <think> tag ends with </think>, as usual.",
        ),
        ("I think <this> is it.", "I think this is it."),
    ],
)
def test_tokens_of_a_model_are_not_spoken_and_their_names_in_prose_are(text: str, expected: str) -> None:
    assert spoken(text) == expected


@law
@given(
    parts=st.lists(
        st.sampled_from([*BLOCKS.values(), "{}", "</think>", "<|end|>", "<think>", "\n"]), max_size=6
    ),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
@example(parts=["{}", "<think>", "{}", "<tool_call>"], cuts=[])
@example(parts=["<think>", "<tool_call>{}</tool_call>", "{}"], cuts=[])
def test_any_split_leaves_out_the_same(parts: list[str], cuts: list[int]) -> None:
    text = "".join(part.format("So it is. ") for part in parts)
    whole = spoken_in_parts(text)
    assert spoken_in_parts(*split(text, cuts)) == whole
    assert spoken_in_parts(*text) == whole
    assert pieces_in_parts(*text) == pieces_of(text)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_positions_of_words_are_those_in_the_text_as_sent(block: str) -> None:
    text = f"{block.format(THOUGHT)}Here it is. {block.format(THOUGHT)}And there."
    words, starts = spoken_in_parts(*text)
    for word in ("Here", "And"):
        assert text[starts[words.index(word)] :].startswith(word)
    segmenter = Segmenter()
    first, second = segmenter.feed(text) + segmenter.flush()
    assert segmenter.without_left_out(text, first) == "Here it is."
    assert segmenter.without_left_out(text, second) == "And there."


def test_a_long_thought_is_dropped_as_it_arrives_and_counts_as_left_out() -> None:
    cleaner, thought = a_cleaner(), "So, what then? " * 4000
    assert cleaner.feed("<think>\n").text == "\n"
    for start in range(0, len(thought), 5):
        assert cleaner.feed(thought[start : start + 5]).text == ""
    assert len(thought) - 200 < cleaner.left_out_chars <= len(thought) + 8
    assert cleaner.feed("</think>It is done. ").text == "It is done. "
    assert cleaner.left_out == [(0, len(thought) + 16)]


def test_a_block_that_never_ends_is_a_stray_mark_after_the_length_of_an_utterance() -> None:
    cleaner = a_cleaner()
    assert cleaner.feed("Wait. <think>" + "so it is " * 2000).text == "Wait. "
    assert len(cleaner.feed("so it is " * 300).text) > 20_000


def test_a_stray_mark_hides_no_block_after_it() -> None:
    text = "So <think> it is. <tool_call>" + "{} " * 100 + "</tool_call> And " + "so " * 100 + "on."
    assert spoken(text) == "So it is. \n And " + "so " * 100 + "on."


def test_a_flush_ends_no_block_and_gives_back_what_a_stray_mark_held() -> None:
    cleaner = a_cleaner()
    assert cleaner.feed("<think>Hm. </thi").text + cleaner.flush().text == "\n"
    assert cleaner.feed("nk>So. <tool_call>{").text + cleaner.flush().text == "So. {"


@pytest.mark.parametrize(
    ("text", "settled", "held"),
    [
        ("Done!", "!", ""),
        ("It was a\n", "", "\n"),
        ("See [the", "", "[the"),
        ("Well. <think>", "", "<think>"),
        ("So **", "", "**"),
        ("So\u200b h", "", "h"),
    ],
)
def test_a_pause_of_the_writer_decides_no_mark(text: str, settled: str, held: str) -> None:
    cleaner = a_cleaner()
    cleaner.feed(text)
    assert (cleaner.settle().text, cleaner.held) == (settled, held)
    assert text[cleaner.decided_chars :] == held


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "<think>",
            "a<think>",
            "<|channel|>",
            "<|tool_begin",
            "<script>",
            "$",
            "$a{",
            "$\\a",
            "\\(",
            "\\[",
            "(laughs",
        ),
        *(
            "\x1b]",
            "\x1b[",
            "\u00ad\n",
            "\n ",
            "-\n",
            "✓",
            "<a b='",
            "<sub alias='a'>",
            "[TOOL_CALLS]a",
            "<｜DSML｜a b",
        ),
    ],
)
def test_hostile_text_is_cleaned_in_linear_time(unit: str) -> None:
    """Character by character: a quadratic rule takes minutes."""
    began_s = time.process_time()
    spoken_in_parts(*("x " + unit * 5000)[:5000])
    assert time.process_time() - began_s < 2


@pytest.mark.parametrize(
    "marks",
    [
        "` ``` ~~~~ ** __ ~~ [ ] ( ![ [x]( \\( \\[ $ $$ \\ & &# < > <a <!-- --> <? | # [pause (pause *laughs",
        "<think> </think> <script> [THINK] <tool_call> <|channel|> <|python_tag|> <｜tool▁calls▁begin｜>",
        "◁think▷ \x1b] \x9d \u00ad http:// www.",
    ],
)
def test_a_stray_mark_in_prose_mutes_no_word_of_it(marks: str) -> None:
    words = ["one", "two", "three", "four", "five"]
    for mark in marks.split():
        for text in (f"One two {mark} three. Four,\nfive.", f"One two. {mark} Three.\n\nFour, five."):
            said = re.findall("[a-z]+", spoken(text).lower())
            assert [word for word in said if word in words] == words, mark
