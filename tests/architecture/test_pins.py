"""The pins: everything that is installed by name has one, and it is one that pyproject.toml allows."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT

PINS = ROOT / "requirements"


def pins(name: str) -> dict[str, str]:
    """Versions by package."""
    lines = [line for line in (PINS / name).read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}


def required() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [
        Requirement(line)
        for line in (
            *project["dependencies"],
            *extras["preview"],
            *extras["qwen3"],
            *extras["timings"],
            *extras["dev"],
        )
    ]


@pytest.mark.parametrize("requirement", required(), ids=str)
def test_what_is_required_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    assert pins("constraints.txt")[canonicalize_name(requirement.name)] in requirement.specifier, (
        "run `make pin`"
    )


@pytest.mark.parametrize("name", ["constraints.txt", "qwen-tts.txt", "gpu-peer.txt", "real-clients.txt"])
def test_pins_name_releases_and_no_place(name: str) -> None:
    assert all(re.fullmatch(r"\d+(\.\d+)*(b\d+)?(\.post\d+)?", version) for version in pins(name).values())


def test_the_qwen_tts_package_gets_the_transformers_that_it_wants() -> None:
    assert pins("qwen-tts.txt")["transformers"] == "4.57.3"
