"""``makima-tts doctor``: what is installed, which engine would run, and what is in the way.

In: the settings, this machine. Out: findings on the terminal; exit code 1 if one of them is bad. Does not
know: how a server is run.
"""

import os
import platform
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from makima_tts import __version__
from makima_tts.errors import TtsError

if TYPE_CHECKING:
    import torch

    from makima_tts.model.devices import DevicePrecision
    from makima_tts.settings import Settings

_PACKAGES = (
    "fastapi",
    "uvicorn",
    "numpy",
    "soundfile",
    "hibari-tts",
    "torch",
    "qwen-tts",
    "flash-attn",
    "pocketsphinx",
)
_REQUIRED = 5

# "bad" keeps the service from working; "note" is worth knowing.
Verdict = Literal["good", "note", "bad"]
# A verdict, its subject, and words about it.
Finding = tuple[Verdict, str, str]


def doctor() -> None:
    """What is installed, which engine would run and why, and whether the port and folders can be used."""
    table = Table("", "", "", box=None, show_header=False)
    findings = _examine()
    for verdict, subject, words in findings:
        mark, style = {"good": ("✓", "green"), "note": ("·", "yellow"), "bad": ("✗", "red")}[verdict]
        table.add_row(Text(mark, style), subject, words)
    Console(markup=False, highlight=False).print(table)
    if any(verdict == "bad" for verdict, _, _ in findings):
        raise typer.Exit(1)


def _examine() -> list[Finding]:
    """Changes nothing, except that missing kernels are compiled, which may fail."""
    from pydantic import ValidationError

    from makima_tts.settings import UnknownSettings, explain, load_settings

    findings: list[Finding] = [("good", "makima-tts", f"{__version__}, Python {platform.python_version()}")]
    findings += _packages()
    try:
        settings = load_settings()
    except (UnknownSettings, ValidationError) as error:
        words = explain(error) if isinstance(error, ValidationError) else str(error)
        return [*findings, ("bad", "settings", words)]
    return [
        *findings,
        _engine(settings),
        _qwen3(settings),
        _checkpoint(settings),
        *_device(settings),
        _port(settings),
        *_folders(settings),
        _voice(settings),
    ]


def _packages() -> Iterator[Finding]:
    for index, name in enumerate(_PACKAGES):
        try:
            yield ("good", name, version(name))
        except PackageNotFoundError:
            yield ("bad" if index < _REQUIRED else "note", name, "not installed")


def _engine(settings: "Settings") -> Finding:
    from makima_tts import factory

    try:
        choice = factory.choose_engine(settings)
    except TtsError as error:
        return ("bad", "engine", error.message)
    return ("good", "engine", f"{choice.name}: {choice.reason}")


def _qwen3(settings: "Settings") -> Finding:
    from makima_tts import factory

    if needs := factory.qwen3_lacks(settings.model_id, settings.model_revision):
        return ("note", "Qwen3-TTS", f"lacks {'; '.join(needs)}")
    return ("good", "Qwen3-TTS", "here")


def _checkpoint(settings: "Settings") -> Finding:
    from makima_tts.hub.cache import find_on_disk

    folder = find_on_disk(settings.model_id, settings.model_revision)
    if folder is not None:
        return ("good", "checkpoint", f"{settings.model_id} lies in {folder}")
    remedy = (
        "TTS_OFFLINE forbids downloading it"
        if settings.offline
        else "makima-tts download fetches it, or a start with TTS_ENGINE=qwen3; its size is not known before"
    )
    words = f"{settings.model_id} is not on this disk, at least not whole; {remedy}"
    return ("note", "checkpoint", words)


def _device(settings: "Settings") -> Iterator[Finding]:
    """What torch finds; nothing where there is no torch."""

    if find_spec("torch") is None:
        return
    unfit: Verdict = "bad" if settings.engine == "qwen3" else "note"
    try:
        import torch

        from makima_tts.model.devices import device_of, precision_on
        from makima_tts.model.ops.table import kernels_lack

        device = device_of(settings.device)
        precision = precision_on(device, settings.precision, settings.cpu_precision)
        name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
        lacking = kernels_lack(device) if device.type == "cuda" else None
        slower = f"; slower than it could be, for want of {lacking}" if lacking else ""
        yield ("good", "device", f"{device}{name} in {precision.name}, torch {torch.__version__}{slower}")
        yield ("good", "kernels", _kernels_in_words(device, precision))
    except TtsError as error:
        yield (unfit, "device", error.message)
    except (ImportError, OSError) as error:
        yield (unfit, "device", f"torch is installed but does not work: {type(error).__name__}")


def _kernels_in_words(device: "torch.device", precision: "DevicePrecision") -> str:
    """What computes each family of operations; on CUDA the first start finds out."""
    from makima_tts.model.ops.self_test import stored_verdict, versions_of
    from makima_tts.model.ops.table import ops_for

    implementations = ops_for(device, precision.weight_bits).implementations
    if "triton" in implementations.values():
        verdict = stored_verdict(versions_of(device, precision.dtype))
        if verdict is None:
            return "triton; the first start tests them on this card and replaces those that fail"
        implementations = verdict.implementations
    return ", ".join(f"{family} {implementation}" for family, implementation in implementations.items())


def _port(settings: "Settings") -> Finding:
    """Listens as the server does, so that the finding is what a start would say."""
    from makima_tts.server.process import CannotListen, listen_on

    try:
        sockets = listen_on(settings.host, settings.port)
    except CannotListen as failure:
        return ("bad", "port", str(failure))
    for listener in sockets:
        listener.close()
    return ("good", "port", f"{settings.port} on {settings.host} is free")


def _folders(settings: "Settings") -> Iterator[Finding]:
    for subject, folder in (("voices folder", settings.voices_dir), ("cache folder", settings.cache_dir)):
        if _writable(folder):
            yield ("good", subject, f"{folder} is writable")
        else:
            words = f"{folder} cannot be written to; uploads or cached voices will be lost"
            yield ("note", subject, words)


def _writable(folder: Path) -> bool:
    """Whether a file can be made there, or the folder could be."""
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if nearest != folder:
        return os.access(nearest, os.W_OK)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _voice(settings: "Settings") -> Finding:
    from makima_tts import factory
    from makima_tts.metrics import Metrics

    try:
        engine = factory.build_engine(factory.choose_engine(settings), settings)
        voice = factory.build_voices(settings, engine, Metrics()).describe(settings.default_voice)
    except TtsError as error:
        return ("note", "default voice", error.message)
    if voice.available:
        return ("good", "default voice", f"{voice.id} is available")
    return ("note", "default voice", f"{voice.id}: {voice.reason}")
