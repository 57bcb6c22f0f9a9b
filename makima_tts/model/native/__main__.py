"""``python -m makima_tts.model.native FOLDER``: compile the kernels for images without a compiler."""

import platform
import sys
from pathlib import Path

from makima_tts.errors import TtsUnavailable
from makima_tts.model.native.compiler import AVX2, AVX512_VNNI, BUILT, PLAIN, build


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    for target in (AVX512_VNNI, AVX2, PLAIN) if x86 else (PLAIN,):
        sys.stdout.write(f"{build(target, folder)}\n")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILT)
    except (TtsUnavailable, OSError) as error:
        sys.exit(str(error))
