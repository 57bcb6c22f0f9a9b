"""The JavaScript package, built once from the current modules of the page."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "typescript"
EXAMPLE = ROOT / "examples" / "conversation" / "page"


@pytest.fixture(scope="package")
def package() -> Path:
    """Its folder. Without Node packages tests are skipped, unless MAKIMA_TTS_REQUIRE_NODE is set."""
    if not all((folder / "node_modules").is_dir() for folder in (PACKAGE, EXAMPLE)):
        assert not os.environ.get("MAKIMA_TTS_REQUIRE_NODE"), "run `make node`"
        pytest.skip("`make node` installs what the package is built and tested with")
    subprocess.run(["npm", "run", "build"], cwd=PACKAGE, check=True)
    return PACKAGE


def check_types(folder: Path) -> None:
    """Runs TypeScript's type check on a folder with a tsconfig.json."""
    subprocess.run([PACKAGE / "node_modules" / ".bin" / "tsc", "--project", folder], check=True)
