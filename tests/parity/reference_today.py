"""What the reference package says and computes today, in one process: importing it takes longer than either.

In: as JSON, what is to be said, and which golden files are to be written where. Out: those files. Does not
know: our model. Runs in the environment of ``make venv-qwen-tts``.
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
