"""``python -m makima_tts`` is ``makima-tts``."""

from makima_tts.cli import main

main()
