"""Pins what the default and the development install bring.

In: pyproject.toml, and the newest releases that it allows. Out: requirements/constraints.txt. Does not know:
which machine it runs on; the pins are tried on every Python that we support.

    python scripts/pin.py          # resolve anew, write the file
    python scripts/pin.py --check  # every pin of the file has a wheel for every Python
"""

import argparse
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
EXTRAS = ("preview", "dev")
PYTHONS = ("3.11", "3.12", "3.13")
HEADING = "# Written by `make pin`: what the default and the development install bring.\n"


def wanted() -> list[str]:
    """The requirements of pyproject.toml, those of the pinned extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]


def resolve() -> str:
    """The lines of ``pip freeze`` in a fresh environment of this Python."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *wanted()], check=True)
        return subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout


def has_wheels(python: str) -> bool:
    """Whether every pin can be had without a compiler on this Python (nothing is installed)."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        elsewhere = ["--target", folder, "--python-version", python, "--only-binary", ":all:", "--no-deps"]
        tried = subprocess.run(
            [*pip, "install", "--quiet", "--dry-run", *elsewhere, "--requirement", str(CONSTRAINTS)],
            check=False,
        )
    return tried.returncode == 0


def main() -> int:
    """The exit code: 1 when a pin lacks a wheel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only try the pins that are there")
    if not parser.parse_args().check:
        CONSTRAINTS.write_text(HEADING + resolve())
    lacking = [python for python in PYTHONS if not has_wheels(python)]
    for python in lacking:
        print(f"Python {python}: not every pin of {CONSTRAINTS.name} has a wheel.", file=sys.stderr)
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
