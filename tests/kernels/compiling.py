"""Compiles what the published model launches, for cards that are not here.

In: nothing. Out: as JSON, what is known of its kernels, of its codec's, and of how many launches those are.
Does not know: what may be used.

To be run by an interpreter that interprets no kernels. Both parts at once: they take as long as each other.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.kernels import published, published_codec

AMPERE, HOPPER = 80, 90
PRODUCTS = ("_linear_kernel", "_gated_linear_kernel")


def _frame() -> list[dict[str, object]]:
    """Of one stream and of many; for Ampere what differs there."""
    few_and_many = published.compiled_kernels(HOPPER, (1, 256))
    return few_and_many + published.compiled_kernels(AMPERE, (256,), PRODUCTS)


def _codec() -> list[dict[str, object]]:
    return published_codec.compiled_kernels((AMPERE, HOPPER))


def main() -> None:
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        frame, codec, launches = map(pool.submit, (_frame, _codec, published_codec.launch_counts))
        found = {"frame": frame.result(), "codec": codec.result(), "launches": launches.result()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
