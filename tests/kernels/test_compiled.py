"""The kernels compile for the cards they are for, in numbers and sizes of the published model."""

from typing import Any

import pytest

PRODUCTS = {"_linear_kernel", "_gated_linear_kernel"}
KERNELS = PRODUCTS | {
    "_add_norm_kernel",
    "_rotate_and_cache_kernel",
    "_attention_kernel",
    "_uniform_kernel",
    "_sample_kernel",
}
# Of one program, on the cards that have the least: GeForce 30 and 40.
SHARED_BYTES = 99 * 1024


@pytest.fixture(scope="module")
def kernels(compiled: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a frame."""
    found: list[dict[str, Any]] = compiled["frame"]
    return found


def test_every_kernel_fits_in_the_cards_it_is_for(kernels: list[dict[str, Any]]) -> None:
    """And nothing of a frame is read back: its tensors had no numbers."""
    assert {each["kernel"] for each in kernels if each["capability"] == 90} == KERNELS
    assert {each["kernel"] for each in kernels if each["capability"] == 80} == PRODUCTS
    assert max(each["shared_bytes"] for each in kernels) <= SHARED_BYTES
    assert max(each["spilled_bytes"] for each in kernels) <= 16


def test_products_of_few_rows_and_of_many_use_the_same_instruction(kernels: list[dict[str, Any]]) -> None:
    """Another would sum up in another order."""
    for capability, instruction in ((80, "mma.sync"), (90, "wgmma")):
        here = [each for each in kernels if each["capability"] == capability and each["kernel"] in PRODUCTS]
        assert len(here) >= 3
        assert all(each["instruction"] == [instruction] for each in here)
