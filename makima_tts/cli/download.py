"""``makima-tts download``: a Qwen3-TTS checkpoint from Hugging Face."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.console import Console

_err = Console(stderr=True, markup=False, highlight=False)


def download(
    model: Annotated[str | None, typer.Option(help="A Hugging Face id; else TTS_MODEL_ID.")] = None,
    revision: Annotated[
        str | None, typer.Option(help="A commit, branch or tag; else TTS_MODEL_REVISION, else main.")
    ] = None,
) -> None:
    """Fetch a Qwen3-TTS checkpoint from Hugging Face, check every file, and say where it lies.

    What is on this machine already is checked and kept; a download that broke off goes on from there.
    """
    from makima_tts.hub.download import download as fetch, find_or_download
    from makima_tts.settings import load_settings

    settings = load_settings()
    model_id = model or settings.model_id
    commit = revision or (settings.model_revision if model_id == settings.model_id else None)
    with _progress() as report:
        folder = (
            find_or_download(model_id, revision=commit, offline=True, report=report)
            if settings.offline
            else fetch(model_id, revision=commit, report=report)
        )
    untried = "" if find_spec("torch") else ", but was not tried: torch is not installed"
    if not untried:
        from makima_tts.model.checkpoint.folder import Checkpoint

        Checkpoint.open(folder)  # raises TtsUnavailable for a folder that is no usable checkpoint
    typer.echo(f"{model_id} is whole{untried}.")
    typer.echo(f"It lies in {folder}")
    for name, value, now in (
        ("TTS_MODEL_ID", model_id, settings.model_id),
        ("TTS_MODEL_REVISION", commit, settings.model_revision),
    ):
        if value != now:
            typer.echo(f"To speak with it, set {name}={value or ''}")


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on a terminal; elsewhere a line for every tenth."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    if not _err.is_terminal:
        yield _print_tenths()
        return
    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda words, share: bar.update(task, description=words, completed=share)


def _print_tenths() -> Callable[[str, float], None]:
    printed = -1

    def report(words: str, share: float) -> None:
        nonlocal printed
        if int(share * 10) > printed:
            printed = int(share * 10)
            typer.echo(words, err=True)

    return report
