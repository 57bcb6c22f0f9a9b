"""What the measuring of live text rests on: tokens that are words, and a writer who is not early."""

from pathlib import Path
from time import monotonic

from bench.live_text import _TRANSCRIPT, TEXT, words_of, written
from bench.voice import CLIP_S
from makima_tts.model.tokenizer import TextTokenizer
from tests.checkpoints.tiny_tokenizer import write_tokenizer


def test_the_texts_words_are_tokens_and_the_transcript_has_one_for_every_frame(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, first_special_id=1024, words=words_of(TEXT))
    tokenizer = TextTokenizer.load(tmp_path)
    marks = sum(char in ",." for char in TEXT)
    assert len(tokenizer.encode(TEXT)) == len(TEXT.split()) + marks
    assert len(tokenizer.encode(_TRANSCRIPT)) > CLIP_S * 12.5


async def test_the_writer_writes_all_of_the_text_and_none_of_it_early() -> None:
    since: list[float] = []
    tokens = [token async for token in written(1000, since)]
    assert "".join(tokens) == TEXT
    assert monotonic() - since[0] >= (len(tokens) - 1) / 1000
