"""Generates speech and golden files with the reference package in one process, because importing it is slow.

The request is JSON. Runs in the environment of ``make venv-qwen-tts``.
"""

import json
import sys
from pathlib import Path

from tests.parity import make_golden, reference_speech


def main() -> None:
    asked = json.loads(sys.argv[1])
    reference_speech.speak(asked["speech"])
    make_golden.write(asked["parts"], asked["shapes"], Path(asked["into"]))


if __name__ == "__main__":
    main()
