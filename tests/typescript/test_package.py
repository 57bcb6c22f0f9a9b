"""The JavaScript package of the speak page's client modules."""

import json
import os
import subprocess
import sys
from pathlib import Path

from makima_tts import __version__
from tests.typescript.conftest import ROOT, check_types

PAGE_MODULES = ROOT / "makima_tts" / "api" / "static" / "client"


def test_its_own_tests_pass_against_a_real_service(package: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TTS_")}
    env |= {"MAKIMA_TTS_PYTHON": sys.executable, "NO_COLOR": "1"}
    # No pre- and post-scripts: the package is already built.
    subprocess.run(["npm", "test", "--ignore-scripts"], cwd=package, env=env, check=True)


def test_the_type_checks_of_the_package_and_of_the_speak_page_pass(package: Path) -> None:
    check_types(package)


def test_the_published_files_are_the_pages_modules_types_and_the_hook(package: Path) -> None:
    pack = ["npm", "pack", "--dry-run", "--json", "--ignore-scripts"]
    told = subprocess.run(pack, cwd=package, stdout=subprocess.PIPE, text=True, check=True)
    scripts = {path.name for path in PAGE_MODULES.glob("*.js")} | {"use-speak.js"}
    dist = scripts | {name.replace(".js", ".d.ts") for name in scripts}
    expected = {f"dist/{name}" for name in dist} | {"package.json", "README.md", "LICENSE"}
    assert {file["path"] for file in json.loads(told.stdout)[0]["files"]} == expected


def test_it_has_the_services_version_and_no_dependency(package: Path) -> None:
    described = json.loads((package / "package.json").read_text())
    assert described["version"] == __version__
    assert "dependencies" not in described
    optional = {name: {"optional": True} for name in described["peerDependencies"]}
    assert described["peerDependenciesMeta"] == optional
