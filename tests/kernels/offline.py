"""Compiles the kernels that a call launches, for cards that are not here, and says what they need.

In: a call. Out: what was compiled. Does not know: what is computed: tensors may be without numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction, mangle_type


@dataclass(frozen=True)
class Launch:
    """Of one kernel."""

    kernel: JITFunction
    signature: dict[str, str]
    constants: dict[str, Any]
    divisible: tuple[int, ...]
    options: dict[str, int]
    grid: tuple[int, ...]

    @property
    def width(self) -> tuple[str, object]:
        """What two launches have in common that compile to much the same."""
        return self.kernel.fn.__name__, self.constants.get("BLOCK_N")

    def compiled(self, capability: int) -> Any:
        """What ``triton`` makes of it."""
        source = ASTSource(
            self.kernel,
            self.signature,
            self.constants,
            {(place,): [["tt.divisibility", 16]] for place in self.divisible},
        )
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=self.options)


def launches_of(call: Callable[[], object]) -> list[Launch]:
    """What ``call`` would launch; nothing is."""
    found: list[Launch] = []

    def record(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        assert not warmup
        found.append(_launch(kernel, args, grid, options))

    run, JITFunction.run = JITFunction.run, record
    try:
        call()
    finally:
        JITFunction.run = run
    return found


def _launch(kernel: JITFunction, args: tuple[Any, ...], grid: Any, given: dict[str, Any]) -> Launch:
    """As ``JITFunction.run`` specializes: on what is constant, and on what 16 divides."""
    names = [parameter.name for parameter in kernel.params]
    values = dict(zip(names, args, strict=False)) | {n: v for n, v in given.items() if n in names}
    constants, signature, divisible = {}, {}, []
    for place, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        special = not parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (special and type(value) is int and value == 1):
            constants[parameter.name], signature[parameter.name] = value, "constexpr"
            continue
        signature[parameter.name] = mangle_type(value)
        if special and (hasattr(value, "data_ptr") or (type(value) is int and value % 16 == 0)):
            divisible.append(place)
    options = {name: value for name, value in given.items() if name not in names}
    return Launch(kernel, signature, constants, tuple(divisible), options, tuple(grid))
