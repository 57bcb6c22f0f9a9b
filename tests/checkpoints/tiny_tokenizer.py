"""A byte-level BPE tokenizer with a few hundred tokens, in the files that are published.

In: a folder, where the special ids begin. Out: vocab.json, merges.txt, tokenizer_config.json and
preprocessor_config.json. Does not know: any model.

It can write every text, a byte a token if need be, and has the words of the prompt's template and some common
ones whole, so that texts differ in more than their bytes.
"""

import json
from collections.abc import Sequence
from pathlib import Path

_WORDS = ("assistant", " the", " and", " of", " to", "ing", " is", " in", " you", "er", "on", " th", "en")
# As they are published, by their distance from the first.
_SPECIAL_TOKENS = {
    0: "<|endoftext|>",
    1: "<|im_start|>",
    2: "<|im_end|>",
    28: "<tts_pad>",
    29: "<tts_text_bos>",
    30: "<tts_text_eod>",
}


def byte_letters() -> list[str]:
    """The letter that stands for each byte in GPT-2's byte-level alphabet."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def write_tokenizer(folder: Path, *, first_special_id: int, words: Sequence[str] = ()) -> None:
    """``first_special_id``: that of <|endoftext|>; ordinary tokens lie below it. ``words``: whole, too."""
    letters = byte_letters()
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    merges = []
    for word in (*words, *_WORDS):
        whole, *rest = (letters[byte] for byte in word.encode())
        for letter in rest:
            if whole + letter not in vocabulary:
                merges.append(f"{whole} {letter}")
                vocabulary[whole + letter] = len(vocabulary)
            whole += letter
    if len(vocabulary) > first_special_id:
        raise ValueError(f"{len(vocabulary)} tokens do not fit below {first_special_id}")
    # The reference numbers special tokens on from the last ordinary one, whatever the file says.
    vocabulary |= {f"unused {index}": index for index in range(len(vocabulary), first_special_id)}
    write_tokenizer_files(folder, vocabulary, merges)


def write_tokenizer_files(folder: Path, vocabulary: dict[str, int], merges: list[str]) -> None:
    """``merges``: two tokens and a space between them, the earliest first. Special ids follow the last."""
    special = {
        str(len(vocabulary) + distance): {
            "content": _SPECIAL_TOKENS.get(distance, f"<|reserved_{distance}|>"),
            "special": True,
            **dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False),
        }
        for distance in range(max(_SPECIAL_TOKENS) + 1)
    }
    config = {
        "added_tokens_decoder": special,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "processor_class": "Qwen3TTSProcessor",
        "tokenizer_class": "Qwen2Tokenizer",
    }
    # To the byte as they are published, for the published vocabulary.
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")))
    (folder / "merges.txt").write_text("".join(f"{merge}\n" for merge in merges))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "preprocessor_config.json").write_text('{"processor_class": "Qwen3TTSProcessor"}\n')
