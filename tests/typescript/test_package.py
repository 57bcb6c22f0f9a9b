"""The JavaScript package: the speak page's own modules, for other programs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "typescript"
PAGE_MODULES = ROOT / "makima_tts" / "api" / "static" / "client"


@pytest.fixture(scope="module")
def tested() -> subprocess.CompletedProcess[str]:
    """Build, types and tests of the package; the tests speak through a service of their own."""
    if not (PACKAGE / "node_modules").is_dir():
        assert not os.environ.get("MAKIMA_TTS_REQUIRE_NODE"), "run `make node`"
        pytest.skip("`make node` installs what the package is built and tested with")
    env = {name: value for name, value in os.environ.items() if not name.startswith("TTS_")}
    return subprocess.run(
        ["npm", "test"],
        cwd=PACKAGE,
        env=env | {"MAKIMA_TTS_PYTHON": sys.executable, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_it_has_sound_types_and_speaks_through_a_real_service(
    tested: subprocess.CompletedProcess[str],
) -> None:
    assert tested.returncode == 0, tested.stdout


def test_what_is_published_is_the_pages_modules_with_types_and_the_hook(
    tested: subprocess.CompletedProcess[str],
) -> None:
    assert tested.returncode == 0
    packed = _npm("pack", "--dry-run", "--json", "--ignore-scripts")[0]
    scripts = {path.name for path in PAGE_MODULES.glob("*.js")} | {"use-speak.js"}
    dist = scripts | {name.replace(".js", ".d.ts") for name in scripts}
    expected = {f"dist/{name}" for name in dist} | {"package.json", "README.md", "LICENSE"}
    assert {file["path"] for file in packed["files"]} == expected


def test_whoever_installs_it_installs_nothing_else() -> None:
    package = json.loads((PACKAGE / "package.json").read_text())
    assert "dependencies" not in package
    assert package["peerDependenciesMeta"] == {
        name: {"optional": True} for name in package["peerDependencies"]
    }


def _npm(*arguments: str) -> Any:
    done = subprocess.run(["npm", *arguments], cwd=PACKAGE, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)
