"""The kernels compile for the cards they are for, in numbers and sizes of the published model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PRODUCTS = {"_product", "_gated_product"}
KERNELS = PRODUCTS | {"_add_and_norm", "_place_heads", "_attend", "_uniform", "_choose"}
# Of one program, on the cards that have the least: GeForce 30 and 40.
SHARED_BYTES = 99 * 1024


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of one stream and of many, in a process that interprets nothing; for Ampere what differs there."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    made = subprocess.run(
        [sys.executable, "-m", "tests.kernels.published", "90:1,256:", "80:256:_product,_gated_product"],
        cwd=Path(__file__).parents[2],
        env=env,
        capture_output=True,
        check=True,
        text=True,
    )
    return [json.loads(line) for line in made.stdout.splitlines()]


def test_every_kernel_fits_in_the_cards_it_is_for(compiled: list[dict[str, Any]]) -> None:
    """And nothing of a frame is read back: its tensors had no numbers."""
    assert {each["kernel"] for each in compiled if each["capability"] == 90} == KERNELS
    assert {each["kernel"] for each in compiled if each["capability"] == 80} == PRODUCTS
    assert max(each["shared_bytes"] for each in compiled) <= SHARED_BYTES
    assert max(each["spilled_bytes"] for each in compiled) <= 16


def test_products_of_few_rows_and_of_many_use_the_same_instruction(compiled: list[dict[str, Any]]) -> None:
    """Another would sum up in another order."""
    for capability, instruction in ((80, "mma.sync"), (90, "wgmma")):
        here = [each for each in compiled if each["capability"] == capability and each["kernel"] in PRODUCTS]
        assert len(here) >= 3
        assert all(each["instruction"] == [instruction] for each in here)
