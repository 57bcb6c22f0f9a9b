"""``makima-tts say``: one text into a WAV file, through a server or in this process.

In: a text, and how to say it. Out: a file; its measurements on the terminal. Does not know: the engines.
"""

import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from makima_tts.errors import InvalidMessage

_out = Console(markup=False, highlight=False)
_err = Console(stderr=True, markup=False, highlight=False)


@dataclass(frozen=True, slots=True)
class SayRequest:
    """``language`` is an English name or Auto; ``voice`` None is the default voice.

    For comparing Qwen3-TTS with its reference, without a server: ``clone_mode`` instead of the voice's own;
    ``codes``: where to write them, int64 [frames, Q].
    """

    text: str = field(repr=False)
    path: Path
    voice: str | None
    language: str
    seed: int | None
    clone_mode: Literal["icl", "xvector"] | None = None
    codes: Path | None = None


# Seconds of audio; seconds from the request to the first of it; a warning for the person who asked.
SayResult = tuple[float, float, str | None]


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
        Literal["streaming", "full"],
        typer.Option(help="Text is read along with speech, or all of it before."),
    ] = "streaming",
    clone_mode: Annotated[
        Literal["icl", "xvector"] | None,
        typer.Option(help="Clone with or without the transcript; else as the voice says."),
    ] = None,
    codes: Annotated[Path | None, typer.Option(help="Also write the codes, to this .npy file.")] = None,
) -> None:
    """Say something into a WAV file.

    Through --url, or the server that TTS_HOST and TTS_PORT name, or one that is started for the purpose;
    with --engine or --model without a server. The options after --model are for comparing Qwen3-TTS with its
    reference, and speak in this process too.
    """
    from makima_tts import logs
    from makima_tts.cli import say_locally, say_remotely
    from makima_tts.engines.qwen3 import SynthesisOptions
    from makima_tts.protocol import language_name

    logs.configure("warning", "auto")
    for path, suffix in ((out, ".wav"), (codes, ".npy")):
        if path is not None and (path.suffix.lower() != suffix or not os.access(path.parent, os.W_OK)):
            raise InvalidMessage(
                f"Only a file that ends in {suffix} is written, in a folder that takes files."
            )
    words, spoken = sys.stdin.read() if text == "-" else text, language_name(language)
    if spoken is None:
        raise InvalidMessage("That is no language that this service knows; try English, ja or Auto.")
    request = SayRequest(words, out, voice, spoken, seed, clone_mode, codes)
    options = SynthesisOptions(greedy, raw, text_mode == "streaming", max_frames)
    with _err.status("Speaking …") as status:
        if engine or model or clone_mode or codes or options != SynthesisOptions():
            speaking = say_locally.speak(request, engine or "qwen3", model, options)
        else:
            speaking = say_remotely.speak(request, url, status.update)
        audio_s, ttfa_s, warning = asyncio.run(speaking)
    _out.print(f"{out}  {audio_s:.2f} s · first sound after {ttfa_s * 1000:.0f} ms")
    if warning:
        _err.print(warning, style="yellow")
