"""The size of the package and its words: budgets, one class a name, retired identifiers, parameters."""

import ast

import pytest

from scripts.measure_code import ambiguous_class_names, figures, lines_per_package
from tests.architecture.source import PACKAGE, Module, modules

MAX_PARAMETERS = 12

# ``python -m scripts.measure_code`` prints today's figures. A budget that is exceeded asks first what can be
# deleted or merged; raising it is a decision, and the commit says what for (docs/adr/0016).
MAX_FIGURES = {
    "makima_tts: lines": 25_300,
    "makima_tts: lines of code": 17_350,
    "makima_tts: modules": 143,
    "makima_tts: class names": 387,
    "makima_tts: modules with one importer": 44,
    "bench: lines": 4_000,
    "bench: modules": 30,
}
# Lines of Python of each package: the figure after the last restructuring plus a few per cent.
MAX_LINES = {
    "__init__": 20,
    "__main__": 20,
    "alignment": 375,
    "api": 2530,
    "audio": 1180,
    "cli": 980,
    "client": 1525,
    "engines": 3480,
    "errors": 120,
    "factory": 200,
    "hub": 520,
    "logs": 80,
    "metrics": 80,
    "model": 7080,
    "origins": 130,
    "protocol": 930,
    "server": 600,
    "session": 1330,
    "settings": 245,
    "speaking": 350,
    "speech": 445,
    "text": 1950,
    "timings": 200,
    "voices": 1310,
    "wyoming": 306,
}

# Identifiers of earlier editions, for which the field has a word (docs/glossary.md). Matched whole.
RETIRED = {
    "Arena", "Arithmetic", "Awaited", "BodyForm", "Choosing", "EngineLife", "FirstCodes", "FrameChoices",
    "FrameMaker", "FusedConvolution", "FusedTransformer", "GpuMatrix", "GpuTransformer", "Growth",
    "HistoryPlan", "LayerByLayer", "Made", "Manner", "Manuscript", "Mixing", "Moment", "OwnDialect", "Pace",
    "Passage", "Past", "Places", "PromptPart", "Pump", "QuantizedTransformer", "Said",
    "Sounded", "Spoken", "SpokenUtterance", "Standing", "Stretch", "Wanted", "WeightKind",
    "awaited", "choosing", "constant_known", "due_s", "growing", "hand_over", "hasten", "hurried",
    "impatient", "inward", "maker", "manner", "manuscript", "nobody", "outward", "parts_of", "patience_s",
    "performance", "plenty_s", "plenty_share", "put_constant", "somebody", "soundings", "speak_on",
    "standing", "turned", "unknown_rows", "unread", "were_read", "whoever", "widen",
}  # fmt: skip
# Ordinary words that a test may use, and that said too little in the package.
RETIRED_IN_PACKAGE = {"chosen", "wanted"}

EVERYTHING = [module for folder in (PACKAGE, "bench", "scripts", "tests") for module in modules(folder)]


def identifiers(module: Module) -> set[str]:
    """Names that a module defines or uses: variables, attributes, parameters, functions, classes."""
    found: set[str] = set()
    for node in ast.walk(module.tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.keyword(arg=str(name)):
                found.add(name)
    return found


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many a caller may give, without ``self`` and ``cls``."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([one for one in named if one.arg not in ("self", "cls")])


def read_by_a_library(module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Triton compiles it, or typer makes options of its parameters."""
    decorators = " ".join(ast.unparse(decorator) for decorator in function.decorator_list)
    return "triton.jit" in decorators or module.name == f"{PACKAGE}.cli.{function.name}"


@pytest.mark.parametrize("name", MAX_FIGURES)
def test_the_code_is_within_its_figures(name: str) -> None:
    assert figures()[name] <= MAX_FIGURES[name]


@pytest.mark.parametrize("package", sorted(lines_per_package()))
def test_a_package_is_within_its_budget_of_lines(package: str) -> None:
    assert package in MAX_LINES, f"{package} has no budget; decide one"
    assert lines_per_package()[package] <= MAX_LINES[package]


def test_no_budget_is_left_of_a_package_that_is_gone() -> None:
    assert set(MAX_LINES) <= set(lines_per_package())


def test_a_class_name_is_defined_once() -> None:
    assert ambiguous_class_names() == {}


@pytest.mark.parametrize("module", EVERYTHING, ids=lambda module: module.name)
def test_retired_identifiers_do_not_come_back(module: Module) -> None:
    tested_code = not module.name.startswith("tests.")
    assert identifiers(module) & (RETIRED | (RETIRED_IN_PACKAGE if tested_code else set())) == set()


def test_a_function_has_at_most_twelve_parameters() -> None:
    long = [
        (module.name, function.name, parameters(function))
        for module in modules(PACKAGE)
        for function in module.functions()
        if parameters(function) > MAX_PARAMETERS and not read_by_a_library(module, function)
    ]
    assert long == []
