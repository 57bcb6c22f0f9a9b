"""Pins all direct and indirect dependencies.

In: pyproject.toml, and the newest releases that it allows. Out: requirements/constraints.txt. Does not know:
the machine; the pins are resolved for the oldest supported Python and checked for all supported ones.

    python scripts/pin.py          # resolve again, write the file
    python scripts/pin.py --check  # only check the existing pins
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
HEADING = "# Written by `make pin`: what the default, extra and development installs bring, indirectly too.\n"

EXTRAS = ("preview", "qwen3", "wyoming", "play", "timings", "dev")
PYTHONS = ("3.11", "3.12", "3.13")
# The release with which Qwen3-TTS is measured; an update is a change of its own.
HELD = ("torch==2.13.0",)


def requirements() -> list[str]:
    """The requirements of pyproject.toml, including those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra]), *HELD]


def dry_run(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``pip install --dry-run`` for another Python, wheels only."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--dry-run"]
        elsewhere = ["--target", folder, "--python-version", python, "--only-binary", ":all:"]
        return subprocess.run([*pip, *elsewhere, *arguments], check=False, stdout=subprocess.PIPE, text=True)


def resolve() -> str:
    """One ``name==version`` a line, sorted. Raises CalledProcessError when there is no solution."""
    resolved = dry_run(PYTHONS[0], "--report", "-", *requirements())
    resolved.check_returncode()
    packages = [package["metadata"] for package in json.loads(resolved.stdout)["install"]]
    return "".join(sorted(f"{package['name'].lower()}=={package['version']}\n" for package in packages))


def main() -> int:
    """The exit code: 1 when a pin lacks a wheel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only try the pins that are there")
    if not parser.parse_args().check:
        CONSTRAINTS.write_text(HEADING + resolve())
    pins = ("--no-deps", "--requirement", str(CONSTRAINTS))
    lacking = [python for python in PYTHONS if dry_run(python, *pins).returncode]
    for python in lacking:
        print(f"Python {python}: not every pin of {CONSTRAINTS.name} has a wheel.", file=sys.stderr)
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
