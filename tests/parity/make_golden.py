"""Writes the golden files: results of the reference package.

In: the small checkpoints. Out: one file per part of the model and shape, in ``golden/``. Does not know: our
model. Runs in the environment of ``make venv-qwen-tts``:

    make golden                                                # all of them
    python -m tests.parity.make_golden --part codec --shape deep --into /tmp/golden
"""

import argparse
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from safetensors.torch import save_file

from tests.checkpoints import SHAPES, write_checkpoint

GOLDEN = Path(__file__).parent / "golden"
PARTS = ("generation", "rules", "codec", "encoders", "tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--into", type=Path, default=GOLDEN)
    arguments = parser.parse_args()
    write(arguments.part or PARTS, arguments.shape or list(SHAPES), arguments.into)


def write(parts: Sequence[str], shapes: Sequence[str], into: Path) -> None:
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = write_checkpoint(Path(folder), SHAPES[shape])
            for part in parts:
                made = import_module(f"tests.parity.golden_{part}").make(checkpoint, shape)
                if made:
                    save_file(made, into / f"{part}_{shape}.safetensors")


if __name__ == "__main__":
    main()
