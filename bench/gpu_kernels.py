"""The tests of the kernels, on the GPU that they are for: here Triton compiles them, elsewhere it interprets.

In: nothing. Out: how many of them passed, failed, were skipped. Does not know: what they test.
"""

from bench.gpu_findings import Findings, Given, given
from bench.gpu_tests import run
from bench.processes import ROOT

_TESTS = ROOT / "tests" / "kernels"
# What compiles for cards that are not there says nothing new on one that is.
_ELSEWHERE = "compiled"
_QUICK = "test_sampler.py"


def measure(given: Given, findings: Findings) -> None:
    files = [_TESTS / _QUICK] if given.dry else sorted(_TESTS.glob("test_*.py"))
    run([str(path) for path in files if _ELSEWHERE not in path.name], "kernel tests", given, findings)


if __name__ == "__main__":
    measure(*given(__doc__))
