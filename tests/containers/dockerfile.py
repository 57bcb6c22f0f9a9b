"""Parses the Dockerfile: arguments of instructions, copied paths, environment."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
STATEMENTS = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def arguments(instruction: str) -> list[str]:
    """The arguments of every use of an instruction."""
    return [line.split(maxsplit=1)[1] for line in STATEMENTS if line.startswith(f"{instruction} ")]


def copied() -> set[str]:
    """The paths of this repository that the build copies."""
    return {source for copy in arguments("COPY") if "--from" not in copy for source in copy.split()[:-1]}


def environment() -> dict[str, str]:
    """The variables of every image."""
    return dict(variable.split("=", 1) for variable in arguments("ENV")[0].split())
