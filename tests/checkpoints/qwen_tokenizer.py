"""The real vocabulary of Qwen's tokenizer, in the files that a checkpoint has.

In: qwen.tiktoken, a token and its rank a line. Out: vocab.json and merges.txt with all 151,643 of them, and
tokenizer_config.json. Does not know: any model.

    python -m tests.checkpoints.qwen_tokenizer FOLDER               # ranks from the wheel of dashscope
    python -m tests.checkpoints.qwen_tokenizer FOLDER --ranks FILE  # from a file on the disk

dashscope is Alibaba Cloud's client, under the Apache License 2.0. It is not installed, for it would bring a
dozen packages: the ranks are taken out of its wheel.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from base64 import b64decode
from itertools import pairwise
from pathlib import Path

from tests.checkpoints.tiny_tokenizer import byte_letters, write_tokenizer_files

_WHEEL = "dashscope==2.0.2"
_RANKS = "dashscope/resources/qwen.tiktoken"
_RANKS_SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"


def fetch_ranks() -> bytes:
    """The file's content. Raises CalledProcessError without a package index, ValueError for another file."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
        subprocess.run([*pip, "--no-deps", "--dest", folder, _WHEEL], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            ranks = archive.read(_RANKS)
    if hashlib.sha256(ranks).hexdigest() != _RANKS_SHA256:
        raise ValueError(f"{_WHEEL} carries other ranks than it did")
    return ranks


def vocabulary_and_merges(ranks: bytes) -> tuple[dict[str, int], list[str]]:
    """Tokens in letters, with their ids; and which two tokens became each of them, the earliest first."""
    letters = byte_letters()
    tokens = {b64decode(token): int(rank) for token, rank in map(bytes.split, ranks.splitlines())}

    def spelt(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    vocabulary = {spelt(token): rank for token, rank in tokens.items()}
    merges = []
    for token, rank in sorted(tokens.items(), key=lambda item: item[1]):
        if len(token) > 1:
            first, second = _halves(token, rank, tokens)
            merges.append(f"{spelt(first)} {spelt(second)}")
    return vocabulary, merges


def _halves(token: bytes, rank: int, tokens: dict[bytes, int]) -> tuple[bytes, bytes]:
    """A token before its last merge: its bytes, merged by the earlier ranks until two parts are left."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        pairs = [tokens.get(first + second, rank) for first, second in pairwise(parts)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[best] >= rank:
            raise ValueError(f"token {rank} is not made of earlier ones")
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


def write_qwen_tokenizer(folder: Path, ranks: bytes) -> None:
    """vocab.json and merges.txt as they are published, to the byte; of the added tokens, those of speech."""
    write_tokenizer_files(folder, *vocabulary_and_merges(ranks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ranks", type=Path, help="qwen.tiktoken, if it is on the disk")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_qwen_tokenizer(arguments.folder, arguments.ranks.read_bytes() if arguments.ranks else fetch_ranks())


if __name__ == "__main__":
    main()
