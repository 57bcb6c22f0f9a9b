"""The codec's kernels compile for the cards they are for, in numbers and sizes of the published model."""

from typing import Any

# Of one program, on the cards that have the least: GeForce 30 and 40.
SHARED_BYTES = 99 * 1024
INSTRUCTIONS = {80: "mma.sync", 90: "wgmma"}


def test_every_kernel_fits_in_the_cards_it_is_for(compiled: dict[str, Any]) -> None:
    kernels = compiled["codec"]
    assert {each["kernel"] for each in kernels if each["capability"] == 90} == {
        "embed_codes",
        "_angles_kernel",
        "_attend_kernel",
        "depthwise_and_norm",
        "convolution",
        "last_convolution",
        "finish_frames",
    }
    assert max(each["shared_bytes"] for each in kernels) <= SHARED_BYTES


def test_the_number_of_launches_does_not_depend_on_the_batch(compiled: dict[str, Any]) -> None:
    """For one listener, they are what takes the time."""
    assert max(compiled["launches"]) == min(compiled["launches"]) <= 84


def test_convolutions_multiply_on_tensor_cores_what_arrives_while_they_do(compiled: dict[str, Any]) -> None:
    convolutions = [each for each in compiled["codec"] if each["kernel"] == "convolution"]
    assert {each["capability"] for each in convolutions} == set(INSTRUCTIONS)
    for each in convolutions:
        assert each["instructions"] == ["cp.async.cg", INSTRUCTIONS[each["capability"]]]
