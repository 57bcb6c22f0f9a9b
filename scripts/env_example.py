"""Writes .env.example: every setting with its default and description. Run by `make env-example`."""

import sys
from textwrap import wrap

from makima_tts.settings import PREFIX, Settings

HEADING = """\
# Every setting of makima-tts, with its default. Copy this file to .env and uncomment what you change; what
# stands in the environment wins over it. A TTS_* name that is not listed here refuses to start.
"""


def in_env(default: object) -> str:
    """A default in the syntax of ``.env``."""
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case tuple():
            return ",".join(default)
        case _:
            return str(default)


def example() -> str:
    """The whole file."""
    parts = [HEADING]
    for name, field in Settings.model_fields.items():
        words = "\n".join(f"# {line}" for line in wrap(f"{field.description}.", 100))
        parts.append(f"{words}\n#{PREFIX}{name.upper()}={in_env(field.default)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(example())
