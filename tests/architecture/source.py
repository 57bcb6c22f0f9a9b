"""The project's own source, as the architecture tests look at it.

In: the files of this repository. Out: parsed modules, their functions, their imports. Does not know: what is
allowed.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "makima_tts"


@dataclass(frozen=True)
class Module:
    """One Python file. ``name`` is dotted, and that of the package for an ``__init__``."""

    path: Path
    name: str
    tree: ast.Module
    lines: int

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.tree) or ""

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method, nested ones too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def classes(self) -> Iterator[ast.ClassDef]:
        """Every class, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    def imports(self) -> Iterator[str]:
        """Dotted names of what is imported anywhere in it; ``from a import b`` is ``a`` and ``a.b``."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}: relative import"
                yield str(node.module)
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def read(path: Path) -> Module:
    """Parse one file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    text = path.read_text()
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(path, name, ast.parse(text), len(text.splitlines()))


@cache
def modules(folder: str) -> tuple[Module, ...]:
    """All Python files below a top-level folder."""
    return tuple(read(path) for path in sorted((ROOT / folder).rglob("*.py")))


def reached_from(*packages: str) -> dict[str, str]:
    """What importing these packages imports, by who imports it first: theirs, ours and foreign names.

    Follows our own modules to the end, with the ``__init__`` of every package on the way; of foreign ones it
    knows the name.
    """
    ours = {module.name: module for module in modules(PACKAGE)}
    queue = [name for name in ours if any(_within(name, package) for package in packages)]
    found = dict.fromkeys(queue, "itself")
    while queue:
        importer = queue.pop()
        for imported in ours[importer].imports():
            for name in _with_parents(imported):
                if name not in found:
                    found[name] = importer
                    queue.extend([name] if name in ours else [])
    return found


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
