"""The content of the CPU image, built by the same scripts in a clean folder, as an unprivileged user.

No container engine is needed: the RUN steps of the build are scripts, the environment comes from the
Dockerfile, and the read-only root is a tree without write permission.
"""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from makima_tts.client import SpeechClient
from tests.containers.dockerfile import ROOT, copied, environment

NOBODY: dict[str, Any] = {"user": 65534, "group": 0, "extra_groups": []} if os.geteuid() == 0 else {}


@dataclass(frozen=True)
class Machine:
    """A folder that replaces the container's ``/``, with the installed files."""

    root: Path

    @property
    def prefix(self) -> Path:
        return self.root / "opt" / "makima-tts"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of the Dockerfile, with this folder as ``/``."""
        given = {
            name: value.replace("/", f"{self.root}/", 1) if value.startswith("/") else value
            for name, value in environment().items()
        }
        return {**given, "PATH": f"{self.prefix}/bin:/usr/bin:/bin", **more}

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.prefix / "bin" / "makima-tts", "serve"],
            cwd=self.root / "cache",
            env=self.environment(TTS_HOST="127.0.0.1", TTS_PORT="0"),
            stdout=subprocess.PIPE,
            text=True,
            **NOBODY,
        )

    def is_healthy(self, port: int) -> bool:
        check = [sys.executable, str(ROOT / "scripts" / "healthcheck.py")]
        ran = subprocess.run(check, env={"TTS_PORT": str(port)}, capture_output=True, check=False)
        return ran.returncode == 0

    def installed(self) -> set[Path]:
        return set(self.prefix.rglob("*"))


def installer_environment(home: Path) -> dict[str, str]:
    """The package index settings of this environment, without its Python."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TTS_", "PYTHON"))}
    return {**ours, "HOME": str(home)}


def copy_context(source: Path) -> None:
    """Copies the files that the Dockerfile copies, and gives them to the build user."""
    tops = sorted({name.split("/")[0] for name in copied()})
    subprocess.run(["cp", "--recursive", *tops, source], cwd=ROOT, check=True)


def give_to_builder(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        os.chown(path, NOBODY.get("user", -1), NOBODY.get("group", -1), follow_symlinks=False)


def build(root: Path, source: Path) -> None:
    """The RUN steps of the CPU image."""
    subprocess.run([source / "scripts" / "container-folders.sh", root], check=True, **NOBODY)
    subprocess.run(
        ["scripts/container-build.sh", root / "opt" / "makima-tts", "preview"],
        cwd=source,
        env=installer_environment(root),
        check=True,
        **NOBODY,
    )


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="makima-tts-image-") as folder:
        root, source = Path(folder), Path(folder) / "src"
        for made in (source, root / "opt"):
            made.mkdir()
        copy_context(source)
        give_to_builder(root)
        build(root, source)
        shutil.rmtree(source)
        subprocess.run(["chmod", "-R", "a-w", root / "opt"], check=True)
        yield Machine(root)
        subprocess.run(["chmod", "-R", "u+w", root / "opt"], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("apt-get"), reason="installs, on Debian, as root")
def test_the_cuda_image_has_a_compiler() -> None:
    installed = subprocess.run(
        [ROOT / "scripts" / "container-compiler.sh"], check=True, capture_output=True, text=True
    )
    assert "gcc (" in installed.stdout


def port_of(process: subprocess.Popen[str]) -> int:
    """Waits until the service prints its address."""
    assert process.stdout is not None
    for line in process.stdout:
        if listens := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            return int(listens[1])
    pytest.fail("it ended without listening")


def voices_at(port: int) -> set[str]:
    """The ids of the listed voices."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/voices") as answer:
        return {voice["id"] for voice in json.load(answer)["voices"]}


@pytest.mark.timeout(240)
def test_the_folders_are_writable_by_the_group(machine: Machine) -> None:
    for folder in ("cache", "models", "voices"):
        mode = (machine.root / folder).stat().st_mode
        assert mode & stat.S_IWGRP
        assert not mode & stat.S_IWOTH


@pytest.mark.process
@pytest.mark.timeout(240)
async def test_the_image_speaks_from_a_read_only_root_and_stops_on_a_signal(machine: Machine) -> None:
    installed = machine.installed()
    with machine.start() as process:
        try:
            port = port_of(process)
            async with SpeechClient.connect(f"ws://127.0.0.1:{port}/api/v1/speak") as client:
                spoken = [chunk.pcm async for chunk in client.speak("The image speaks.")]
            assert len(b"".join(spoken)) > 24_000
            assert {"makima", "narrator"} <= voices_at(port)
            assert machine.is_healthy(port)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    assert not machine.is_healthy(port)
    assert machine.installed() == installed
