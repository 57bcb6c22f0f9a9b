"""Writes a checkpoint with random weights and published sizes.

python -m tests.checkpoints FOLDER                 # 0.6B
python -m tests.checkpoints FOLDER --size 1.7B
python -m tests.checkpoints FOLDER --ends-with-text
"""

import argparse
from dataclasses import replace
from pathlib import Path

from tests.checkpoints import PUBLISHED, write_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=PUBLISHED, default="0.6B")
    parser.add_argument("--ends-with-text", action="store_true", help="speech is as long as its text")
    arguments = parser.parse_args()
    shape = replace(PUBLISHED[arguments.size], ends_with_text=arguments.ends_with_text)
    print(write_checkpoint(arguments.folder, shape))


if __name__ == "__main__":
    main()
