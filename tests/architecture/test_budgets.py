"""The house rules that a machine can hold: lengths, names, opening words, and what a suite may take."""

import ast
import re
from statistics import quantiles

import pytest

from tests.architecture.source import PACKAGE, ROOT, Module, modules
from tests.budgets import BUDGETS_S, TESTS, TOTAL_S

MAX_MODULE_LINES = 600
MAX_MEDIAN_LINES = 10
MAX_P90_LINES = 30
# A shorter module needs one line that says what it is.
HEADER_FROM_LINES = 80

OURS = [module for folder in (PACKAGE, "bench", "scripts", "tests") for module in modules(folder)]
SHIPPED = [module for folder in (PACKAGE, "bench", "scripts") for module in modules(folder)]
STATIC = sorted((ROOT / PACKAGE / "api" / "static").rglob("*.js"))

# They name nothing: everything is data, and every module helps.
EMPTY_WORDS = {"util", "utils", "common", "helper", "helpers", "core", "base", "misc"}
VAGUE_WORDS = {"handler", "handlers", "processor", "processors", "info", "data"}
# Names that a library calls us by.
GIVEN_NAMES = {"data_received"}


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, docstring included."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def words(name: str) -> set[str]:
    """``read_voiceData`` → read, voice, data."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_functions_are_short() -> None:
    lengths = [length(function) for module in modules(PACKAGE) for function in module.functions()]
    tenths = quantiles(lengths, n=10)
    assert tenths[4] <= MAX_MEDIAN_LINES
    assert tenths[8] <= MAX_P90_LINES


def test_modules_fit_in_a_head() -> None:
    lengths = {module.path: module.lines for module in OURS}
    lengths |= {path: len(path.read_text().splitlines()) for path in STATIC}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}


@pytest.mark.parametrize("module", OURS, ids=lambda module: module.name)
def test_a_module_opens_with_words(module: Module) -> None:
    assert module.docstring or not module.lines


@pytest.mark.parametrize("module", modules(PACKAGE), ids=lambda module: module.name)
def test_packages_and_long_modules_say_what_flows_in_and_out_and_what_they_do_not_know(
    module: Module,
) -> None:
    if module.path.name == "__init__.py" or module.lines > HEADER_FROM_LINES:
        assert re.search(r"\bIn:\s", module.docstring)
        assert re.search(r"\bOut:\s", module.docstring)
        assert re.search(r"\bDoes\s+not\s+know:\s", module.docstring)


def test_of_the_functions_beside_kernels_only_kernels_lack_annotations() -> None:
    """mypy demands them everywhere else."""
    lacking = [
        (module.name, function.name)
        for module in modules(PACKAGE)
        if module.name.startswith(f"{PACKAGE}.model.triton")
        for function in module.functions()
        if function.returns is None
        and not any("triton.jit" in ast.unparse(d) for d in function.decorator_list)
    ]
    assert not lacking


def test_names_say_something() -> None:
    named = {(module.name, part) for module in OURS for part in module.name.split(".")}
    named |= {(module.name, node.name) for module in SHIPPED for node in module.classes()}
    named |= {(module.name, node.name) for module in SHIPPED for node in module.functions()}
    empty = {(where, name) for where, name in named if words(name) & (EMPTY_WORDS | VAGUE_WORDS)}
    assert {(where, name) for where, name in empty if name not in GIVEN_NAMES} == set()


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    this = "tests.architecture.test_budgets"
    assert [m.name for m in OURS if m.name != this and marks.search(m.path.read_text())] == []


def test_every_suite_has_a_budget_and_all_together_ten_minutes() -> None:
    suites = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert suites <= set(BUDGETS_S)
    assert TOTAL_S <= 600
