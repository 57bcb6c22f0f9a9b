"""The JavaScript package, built once from the page's modules as they are now."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "typescript"
EXAMPLE = ROOT / "examples" / "conversation" / "page"


@pytest.fixture(scope="package")
def package() -> Path:
    """Where it lies. Tests are skipped for want of Node packages, unless MAKIMA_TTS_REQUIRE_NODE is set."""
    if not all((folder / "node_modules").is_dir() for folder in (PACKAGE, EXAMPLE)):
        assert not os.environ.get("MAKIMA_TTS_REQUIRE_NODE"), "run `make node`"
        pytest.skip("`make node` installs what the package is built and tested with")
    subprocess.run(["npm", "run", "build"], cwd=PACKAGE, check=True)
    return PACKAGE


def check_types(folder: Path) -> None:
    """TypeScript's own verdict on a folder with a tsconfig.json."""
    subprocess.run([PACKAGE / "node_modules" / ".bin" / "tsc", "--project", folder], check=True)
