"""The codec's kernels compile for the cards they are for, in numbers and sizes of the published model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Of one program, on the cards that have the least: GeForce 30 and 40.
SHARED_BYTES = 99 * 1024
INSTRUCTIONS = {80: "mma.sync", 90: "wgmma"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """In a process that interprets nothing. A frame's tensors have no numbers: nothing can be read back."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    made = subprocess.run(
        [sys.executable, "-m", "tests.kernels.published_codec", *map(str, INSTRUCTIONS)],
        cwd=Path(__file__).parents[2],
        env=env,
        capture_output=True,
        check=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def test_every_kernel_fits_in_the_cards_it_is_for(compiled: dict[str, Any]) -> None:
    kernels = compiled["kernels"]
    assert {each["kernel"] for each in kernels if each["capability"] == 90} == {
        "sum_of_codes",
        "angles_of",
        "look_back",
        "mixed_and_normed",
        "convolution",
        "last_convolution",
        "finished",
    }
    assert max(each["shared_bytes"] for each in kernels) <= SHARED_BYTES


def test_a_call_is_so_many_launches_whoever_is_in_it(compiled: dict[str, Any]) -> None:
    """For one listener, they are what takes the time."""
    assert max(compiled["launches"]) == min(compiled["launches"]) <= 84


def test_convolutions_multiply_on_tensor_cores_what_arrives_while_they_do(compiled: dict[str, Any]) -> None:
    convolutions = [each for each in compiled["kernels"] if each["kernel"] == "convolution"]
    assert {each["capability"] for each in convolutions} == set(INSTRUCTIONS)
    for each in convolutions:
        assert each["instructions"] == ["cp.async.cg", INSTRUCTIONS[each["capability"]]]
