"""Count the size of the code: lines, modules, class names, importers.

In: the Python files of this repository. Out: figures, printed as a table. Does not know: the limits, which
``tests/architecture`` holds.

Run it from the root of the repository: ``python -m scripts.measure_code``.
"""

import ast
import io
import tokenize
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "makima_tts"


def python_files(folder: str) -> list[Path]:
    """All Python files below a folder of the repository, sorted."""
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """Dotted name; that of the package for an ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def lines(path: Path) -> int:
    """All lines of a file."""
    return len(path.read_text().splitlines())


def code_lines(path: Path) -> int:
    """Lines that hold code: no blank lines, comments or docstrings."""
    text = path.read_text()
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped and token.string:
            held.update(range(token.start[0], token.end[0] + 1))
    return len(held - _docstring_lines(ast.parse(text)))


def _docstring_lines(tree: ast.Module) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())) as docstring, *_]:
                    found.update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return found


def class_names(folder: str = PACKAGE) -> dict[str, list[str]]:
    """The modules that define each class name, nested classes too."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in python_files(folder):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(module_name(path))
    return dict(found)


@cache
def ambiguous_class_names(folder: str = PACKAGE) -> dict[str, list[str]]:
    """Class names that are defined more than once."""
    return {name: where for name, where in class_names(folder).items() if len(where) > 1}


def importers(folder: str = PACKAGE) -> dict[str, set[str]]:
    """For each module that is no package: the modules of the folder that import it, or a name from it."""
    paths = {module_name(path): path for path in python_files(folder)}
    found: dict[str, set[str]] = {name: set() for name, path in paths.items() if path.name[:2] != "__"}
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text())):
            for imported in _imported(node):
                if imported in found and imported != name:
                    found[imported].add(name)
    return found


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def single_importer_modules(folder: str = PACKAGE) -> dict[str, str]:
    """Modules that exactly one other module imports, and which one."""
    return {name: next(iter(by)) for name, by in importers(folder).items() if len(by) == 1}


@cache
def lines_per_package(folder: str = PACKAGE) -> dict[str, int]:
    """Lines of Python of each package or module right below the folder."""
    found: Counter[str] = Counter()
    for path in python_files(folder):
        found[path.relative_to(ROOT / folder).parts[0].removesuffix(".py")] += lines(path)
    return dict(found)


@cache
def figures() -> dict[str, int]:
    """Every figure of this module, by its name."""
    files, bench = python_files(PACKAGE), python_files("bench")
    return {
        f"{PACKAGE}: lines": sum(map(lines, files)),
        f"{PACKAGE}: lines of code": sum(map(code_lines, files)),
        f"{PACKAGE}: modules": len(files),
        f"{PACKAGE}: class names": len(class_names()),
        f"{PACKAGE}: class names defined more than once": len(ambiguous_class_names()),
        f"{PACKAGE}: modules with one importer": len(single_importer_modules()),
        "bench: lines": sum(map(lines, bench)),
        "bench: modules": len(bench),
    }


def main() -> None:
    """Print all figures, then the lines of each package."""
    for name, figure in (figures() | lines_per_package()).items():
        print(f"{figure:7,d}  {name}")


if __name__ == "__main__":
    main()
