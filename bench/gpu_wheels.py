"""The wheels that a GPU's machine without a network is given.

In: pyproject.toml, the pins, this environment's own packages, which say what needs what; a folder, the Python
that is to use them. Out: wheels in the folder, ours and the peer's apart, and how large they are. Does not
know: what is measured with them.

    bench/gpu.sh --wheels        # for Python 3.12
    bench/gpu.sh --wheels 3.13
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.processes import ROOT

# Of the machine's own, with the CUDA that they were built for.
MACHINES = frozenset(("torch", "numpy", "safetensors", "triton"))
# What the tests that need a GPU import.
TESTS = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "httpx")
PEER = ROOT / "requirements" / "gpu-peer.txt"
_PINS = ROOT / "requirements" / "constraints.txt"
_LIBC_VERSIONS = ("2_28", "2_27", "2_24", "2_17", "2_12", "2_5")
_MORE_PLATFORMS = ("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")
# The working tree must stay below 64 MiB with them.
_MOST_MIB = 50.0


def required() -> list[str]:
    """What pyproject.toml names for a server with Qwen3-TTS, but for the machine's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["qwen3"]]
    return [line for line in named if canonicalize_name(Requirement(line).name) not in MACHINES]


def pins() -> dict[str, str]:
    """Versions by name."""
    lines = (line.partition("==") for line in _PINS.read_text().splitlines() if "==" in line)
    return {canonicalize_name(name): version for name, _, version in lines}


def needed(python: str) -> list[str]:
    """``name==version`` of all of ours, indirectly needed ones too, as this environment knows them."""
    pinned, found = pins(), set[str]()
    queue = [*required(), *TESTS]
    while queue:
        name = canonicalize_name(Requirement(queue.pop()).name)
        if name not in found | MACHINES:
            found.add(name)
            queue.extend(_needs_of(name, python))
    return sorted(f"{name}=={pinned[name]}" for name in found)


def _needs_of(name: str, python: str) -> Iterator[str]:
    """Without extras, on Linux."""
    there = {
        "extra": "",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    for line in requires(name) or ():
        marker = Requirement(line).marker
        if marker is None or marker.evaluate(there):
            yield line


def fetch(folder: Path, python: str, wanted: Sequence[str]) -> None:
    """Whatever was in the folder is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    platforms = [*(f"manylinux_{libc}_x86_64" for libc in _LIBC_VERSIONS), *_MORE_PLATFORMS]
    there = ["--python-version", python, "--implementation", "cp", "--only-binary", ":all:"]
    there += [option for platform in platforms for option in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq", "--no-deps"]
    subprocess.run([*pip, *there, "--dest", str(folder), *wanted], check=True)


def mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.whl")) / 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 if they are too large to be carried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("python", nargs="?", default="3.12", help="that is to use them")
    given = parser.parse_args(arguments)
    ours, peers = given.folder / "ours", given.folder / "peer"
    fetch(ours, given.python, needed(given.python))
    fetch(peers, given.python, ("--requirement", str(PEER)))
    (given.folder / "python").write_text(f"{given.python}\n")
    print(f"{given.folder}, for Python {given.python}: {mib(ours):.1f} MiB ours, {mib(peers):.1f} the peer's")
    return 0 if mib(given.folder) < _MOST_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
