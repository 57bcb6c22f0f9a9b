"""The command line: parse arguments, call the factory or a running service, show the answer.

In: arguments. Out: words on the terminal, exit codes. Does not know: how anything is done. Commands import
what they need when they run, so that ``--help`` is quick and light.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from makima_tts import __version__

if TYPE_CHECKING:
    from makima_tts.api.service import Service
    from makima_tts.audio import ClipReport
    from makima_tts.factory import EngineChoice
    from makima_tts.voices import VoiceManager

TextMode = Literal["streaming", "full"]
Cloning = Literal["icl", "xvector"]

app = typer.Typer(
    help="Streaming text-to-speech: speech in a cloned voice while it is still being generated.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
voices_app = typer.Typer(help="The voices that clients may ask for.", no_args_is_help=True)
app.add_typer(voices_app, name="voices")

# What is shown may come from a manifest: nothing in it is markup.
_out = Console(markup=False, highlight=False)
_err = Console(stderr=True, markup=False, highlight=False)


def main() -> None:
    """The console script: failures that have a sentence end with it, not with a traceback."""
    with _plain_failures():
        app()


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; else TTS_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on, 0 for a free one; else TTS_PORT.")
    ] = None,
) -> None:
    """Serve the WebSocket /api/v1/speak and the speak page until Ctrl-C.

    Everything else is set by TTS_* variables; .env.example names them all.
    """
    from makima_tts import factory, logs
    from makima_tts.server import process as server
    from makima_tts.settings import load_settings

    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    choice = factory.choose_engine(settings)
    service = factory.build_service(settings, factory.build_engine(choice, settings))
    server.run(
        factory.build_app(settings, service),
        service,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
        stall_timeout_s=settings.stall_timeout_s,
        drain_timeout_s=settings.drain_timeout_s,
        on_listening=lambda url: _greet(url, choice, service),
    )


@app.command()
def say(
    text: Annotated[str, typer.Argument(help="What to say; - reads standard input.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The WAV file to write.")] = Path("speech.wav"),
    url: Annotated[str | None, typer.Option(help="A running server, such as http://127.0.0.1:8001.")] = None,
    voice: Annotated[str | None, typer.Option(help="A voice's id; else the default voice.")] = None,
    language: Annotated[str, typer.Option(help="A language's name or tag, or Auto.")] = "English",
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same audio.")] = None,
    engine: Annotated[str | None, typer.Option(help="Speak in this process, with this engine.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Speak in this process, with this Qwen3-TTS id or folder.")
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest code.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Nothing that the reference package does not do; 32-bit float WAV.")
    ] = False,
    max_frames: Annotated[int | None, typer.Option(min=1, help="At most so many frames of 80 ms.")] = None,
    text_mode: Annotated[
        TextMode, typer.Option(help="Text is read along with speech, or all of it before.")
    ] = "streaming",
    clone_mode: Annotated[
        Cloning | None, typer.Option(help="Clone with or without the transcript; else as the voice says.")
    ] = None,
    codes: Annotated[Path | None, typer.Option(help="Also write the codes, to this .npy file.")] = None,
) -> None:
    """Say something into a WAV file.

    Through --url, or the server that TTS_HOST and TTS_PORT name, or one that is started for the purpose;
    with --engine or --model without a server. The options after --model are for comparing Qwen3-TTS with its
    reference, and speak in this process too.
    """
    from makima_tts import logs
    from makima_tts.cli import rendering, saying

    logs.configure("warning", "auto")
    wanted = saying.Wanted(sys.stdin.read() if text == "-" else text, out, voice, language, seed)
    manner = rendering.Rendering(greedy, raw, max_frames, text_mode == "streaming", clone_mode, codes)
    with _err.status("Speaking …") as status:
        if engine or model or not manner.plain:
            speak = rendering.render(wanted, engine or "qwen3", model, manner)
        else:
            speak = saying.through_server(wanted, url, status.update)
        said = asyncio.run(speak)
    _out.print(f"{said.path}  {said.audio_s:.2f} s · first sound after {said.ttfa_s * 1000:.0f} ms")
    if said.warning:
        _err.print(said.warning, style="yellow")


@app.command()
def wyoming(
    uri: Annotated[str, typer.Option(help="Where Wyoming clients connect.")] = "tcp://127.0.0.1:10200",
    server: Annotated[
        str | None, typer.Option(help="A running server, such as http://127.0.0.1:8001; else as TTS_* say.")
    ] = None,
) -> None:
    """Let Home Assistant speak through a running server: bridge its Wyoming protocol until Ctrl-C.

    A server that is away is told to who asks, and tried again for the next. Whoever reaches the address may
    speak; Home Assistant on another machine needs one that it can reach, such as tcp://0.0.0.0:10200.
    """
    if find_spec("wyoming") is None:
        sys.exit("This needs the package wyoming: pip install 'makima-tts[wyoming]'.")
    from makima_tts import wyoming as bridge
    from makima_tts.cli.saying import socket_url
    from makima_tts.server.sockets import url_of
    from makima_tts.settings import load_settings

    settings = load_settings()
    service_url = socket_url(server or url_of(settings.host, settings.port))
    asyncio.run(bridge.serve(uri, service_url, _greet_wyoming))


@voices_app.command("list")
def list_voices() -> None:
    """Every voice, and why one is not available."""
    table = Table("id", "name", "language", "available", "reason", box=None, header_style="bold")
    for voice in _voices().list():
        mark = " (default)" if voice.is_default else ""
        table.add_row(
            voice.id + mark,
            voice.name,
            voice.language,
            "yes" if voice.available else "no",
            voice.reason or "",
        )
    _out.print(table)


@voices_app.command("add")
def add_voice(
    clip: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="WAV, FLAC, OGG or MP3, 3-60 s.")],
    name: Annotated[str, typer.Option(help="What the voice is called; its id is made of it.")],
    transcript: Annotated[str, typer.Option(help="Every word of the clip.")] = "",
    language: Annotated[str, typer.Option(help="The language that is spoken in it.")] = "English",
    description: Annotated[str, typer.Option(help="A line about the voice.")] = "",
    consent: Annotated[str, typer.Option(help="Who agreed to being cloned, and when.")] = "",
) -> None:
    """Add a voice from a clip, and report on the clip."""
    from makima_tts.voices import VoiceUpload

    mode = "icl" if transcript else "xvector"
    with clip.open("rb") as audio:
        upload = VoiceUpload(audio, name, transcript, language, description, mode, consent)
        voice, report = asyncio.run(_voices().add(upload))
    _out.print(f"Added {voice.id}.")
    _show_report(report)


@voices_app.command("remove")
def remove_voice(voice_id: Annotated[str, typer.Argument(help="The voice's id.")]) -> None:
    """Remove a voice that was added; shipped ones stay."""
    asyncio.run(_voices().delete(voice_id))
    _out.print(f"Removed {voice_id}.")


@voices_app.command("check")
def check_voice(voice_id: Annotated[str, typer.Argument(help="The voice's id.")]) -> None:
    """Report on a voice's clip: level, noise, length, what to do about it; and on how well it is cloned.

    Where Qwen3-TTS can run, it speaks a sentence, of which the speaker similarity is measured.
    """
    from makima_tts import logs
    from makima_tts.cli import checking

    logs.configure("warning", "auto")
    with _err.status("Checking …") as status:
        checked = asyncio.run(checking.check(voice_id, status.update))
    _show_report(checked.report)
    _out.print(checked.words)


@app.command()
def download(
    model: Annotated[str | None, typer.Option(help="A Hugging Face id; else TTS_MODEL_ID.")] = None,
    revision: Annotated[
        str | None, typer.Option(help="A commit, branch or tag; else TTS_MODEL_REVISION, else main.")
    ] = None,
) -> None:
    """Fetch a Qwen3-TTS checkpoint from Hugging Face, check every file, and say where it lies.

    What is on this machine already is checked and kept; a download that broke off goes on from there.
    """
    from makima_tts.hub.download import download as fetch
    from makima_tts.hub.download import find_or_download
    from makima_tts.settings import load_settings

    settings = load_settings()
    wanted = model or settings.model_id
    commit = revision or (settings.model_revision if wanted == settings.model_id else None)
    with _progress() as report:
        folder = (
            find_or_download(wanted, revision=commit, offline=True, report=report)
            if settings.offline
            else fetch(wanted, revision=commit, report=report)
        )
    opened = _open_checkpoint(folder)
    typer.echo(f"{wanted} is whole{'' if opened else ', but was not tried: torch is not installed'}.")
    typer.echo(f"It lies in {folder}")
    for name, value, now in (
        ("TTS_MODEL_ID", wanted, settings.model_id),
        ("TTS_MODEL_REVISION", commit, settings.model_revision),
    ):
        if value != now:
            typer.echo(f"To speak with it, set {name}={value or ''}")


@app.command()
def doctor() -> None:
    """What is installed, which engine would run and why, and whether the port and folders can be used."""
    from makima_tts.cli import diagnosis

    table = Table("", "", "", box=None, show_header=False)
    findings = diagnosis.examine()
    for finding in findings:
        mark, style = {"good": ("✓", "green"), "note": ("·", "yellow"), "bad": ("✗", "red")}[finding.verdict]
        table.add_row(Text(mark, style), finding.subject, finding.words)
    _out.print(table)
    if any(finding.verdict == "bad" for finding in findings):
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on a terminal; elsewhere a line for every tenth."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    if not _err.is_terminal:
        yield _Tenths().tell
        return
    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda words, share: bar.update(task, description=words, completed=share)


class _Tenths:
    def __init__(self) -> None:
        self._told = -1

    def tell(self, words: str, share: float) -> None:
        if int(share * 10) > self._told:
            self._told = int(share * 10)
            typer.echo(words, err=True)


def _open_checkpoint(folder: Path) -> bool:
    """Whether it could be tried. Raises TtsUnavailable when it is no checkpoint that can be used."""
    if find_spec("torch") is None:
        return False
    from makima_tts.model.checkpoint.folder import Checkpoint

    Checkpoint.open(folder)
    return True


def _voices() -> "VoiceManager":
    """The operator's voices, as a server with these settings would see them."""
    from makima_tts import factory
    from makima_tts.metrics import Metrics
    from makima_tts.settings import load_settings

    settings = load_settings()
    engine = factory.build_engine(factory.choose_engine(settings), settings)
    return factory.build_voices(settings, engine, Metrics())


def _show_report(report: "ClipReport") -> None:
    table = Table("", "", box=None, show_header=False)
    for name, value in report.model_dump().items():
        if value not in (None, [], ()):
            words = ", ".join(value) if isinstance(value, list | tuple) else str(value)
            table.add_row(name.replace("_", " "), words)
    _out.print(table)


def _greet(url: str, choice: "EngineChoice", service: "Service") -> None:
    """The first line is for programs (say reads it), the rest for people."""
    typer.echo(f"makima-tts {__version__} serves on {url}")
    typer.echo(f"  speak page  {url}/speak")
    typer.echo(f"  engine      {choice.name}: {service.engine.facts.model} ({choice.reason})")
    typer.echo(f"  voice       {_expected_voice(service)}")
    if choice.name == "preview":
        typer.echo(f"  note        {service.engine.facts.note}")
    if choice.lacks:
        typer.echo(f"  Qwen3-TTS   lacks {'; '.join(choice.lacks)}")
    sys.stdout.flush()


def _greet_wyoming(uri: str, service_url: str) -> None:
    typer.echo(f"makima-tts {__version__} speaks Wyoming on {uri}")
    typer.echo(f"  for the server at {service_url}")
    sys.stdout.flush()


def _expected_voice(service: "Service") -> str:
    from makima_tts.errors import VoiceNotFound

    try:
        return service.voices.expect().id
    except VoiceNotFound as error:
        return error.message


@contextmanager
def _plain_failures() -> Iterator[None]:
    from pydantic import ValidationError

    from makima_tts.client import ClientError
    from makima_tts.errors import TtsError
    from makima_tts.settings import UnknownSettings, explain

    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except ValidationError as error:
        sys.exit(explain(error))
    except (TtsError, ClientError, UnknownSettings) as error:
        sys.exit(str(error))
