"""Fetches wheels for a GPU's machine that has no network.

In: pyproject.toml, the pins, the metadata of this environment's packages; a folder, a version of Python. Out:
wheels in the folder, ours and the peer's apart, and their size. Does not know: what is measured with them.

    bench/gpu.sh --wheels        # for Python 3.12
    bench/gpu.sh --wheels 3.13
"""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.server import ROOT

# The machine has these, built for its CUDA.
MACHINES = frozenset(("torch", "numpy", "safetensors", "triton"))
# 34 MiB for compressed formats, which are neither measured there nor imported before they are asked for.
UNUSED = frozenset(("av",))
# Imported by the tests that need a GPU, and by the measurements.
TESTS = ("pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "hypothesis", "httpx")
PEER = ROOT / "requirements" / "gpu-peer.txt"
_PINS = ROOT / "requirements" / "constraints.txt"
_LIBC_VERSIONS = ("2_28", "2_27", "2_24", "2_17", "2_12", "2_5")
_MORE_PLATFORMS = ("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")
# The working tree must stay below 64 MiB with them.
_MOST_MIB = 50.0


def required() -> list[str]:
    """The requirements in pyproject.toml of a server with Qwen3-TTS, but for those that the machine has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["qwen3"]]
    return [line for line in named if canonicalize_name(Requirement(line).name) not in MACHINES | UNUSED]


def pins() -> dict[str, str]:
    """Versions by name."""
    lines = (line.partition("==") for line in _PINS.read_text().splitlines() if "==" in line)
    return {canonicalize_name(name): version for name, _, version in lines}


def needed(python: str) -> list[str]:
    """``name==version`` of all of ours, with their dependencies, by the metadata in this environment."""
    pinned, found = pins(), set[str]()
    queue = [*required(), *TESTS]
    while queue:
        name = canonicalize_name(Requirement(queue.pop()).name)
        if name not in found | MACHINES | UNUSED:
            found.add(name)
            queue.extend(_needs_of(name, python))
    return sorted(f"{name}=={pinned[name]}" for name in found)


def _needs_of(name: str, python: str) -> Iterator[str]:
    """Without extras, on Linux."""
    environment = {
        "extra": "",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    for line in requires(name) or ():
        marker = Requirement(line).marker
        if marker is None or marker.evaluate(environment):
            yield line


def fetch(folder: Path, python: str, requirements: Sequence[str]) -> None:
    """Replaces the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    platforms = [*(f"manylinux_{libc}_x86_64" for libc in _LIBC_VERSIONS), *_MORE_PLATFORMS]
    target = ["--python-version", python, "--implementation", "cp", "--only-binary", ":all:"]
    target += [option for platform in platforms for option in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq", "--no-deps"]
    subprocess.run([*pip, *target, "--dest", str(folder), *requirements], check=True)


def mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.whl")) / 2**20


def main(folder: Path, python: str = "3.12") -> int:
    """The exit code: 1 if they are too large to be carried."""
    fetch(folder / "ours", python, needed(python))
    fetch(folder / "peer", python, ("--requirement", str(PEER)))
    (folder / "python").write_text(f"{python}\n")
    sizes = f"{mib(folder / 'ours'):.1f} MiB ours, {mib(folder / 'peer'):.1f} the peer's"
    print(f"{folder}, for Python {python}: {sizes}")
    return 0 if mib(folder) < _MOST_MIB else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:3]))
