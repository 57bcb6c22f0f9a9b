"""``makima-tts say``: one text into a WAV file, through a server or in this process.

In: a text, and how to say it. Out: a file, its subtitles; its measurements on the terminal. Does not
know: the engines.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer
from rich.console import Console

from makima_tts.errors import InvalidMessage
from makima_tts.protocol import TimedWord

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
    word_times: bool = False


class SayResult(NamedTuple):
    """Seconds of audio; seconds from the request to the first of it; a warning; the words, if requested."""

    audio_s: float
    ttfa_s: float
    warning: str | None
    words: Sequence[TimedWord] = ()


def say(
    text: Annotated[str, typer.Argument(help="What to say; - reads standard input.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The WAV file to write.")] = Path("speech.wav"),
    url: Annotated[str | None, typer.Option(help="A running server, such as http://127.0.0.1:8001.")] = None,
    voice: Annotated[str | None, typer.Option(help="A voice's id; else the default voice.")] = None,
    language: Annotated[str, typer.Option(help="A language's name or tag, or Auto.")] = "English",
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same audio.")] = None,
    subtitles: Annotated[
        Path | None, typer.Option(help="Also write subtitles, to this .srt or .vtt file.")
    ] = None,
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
    for path, *suffixes in ((out, ".wav"), (codes, ".npy"), (subtitles, ".srt", ".vtt")):
        if path is not None and (path.suffix.lower() not in suffixes or not os.access(path.parent, os.W_OK)):
            allowed = " or ".join(suffixes)
            raise InvalidMessage(f"Only a file that ends in {allowed} is written, in a writable folder.")
    if raw and subtitles:
        raise InvalidMessage("--subtitles needs the text to be cut into sentences, which --raw leaves out.")
    words, spoken = sys.stdin.read() if text == "-" else text, language_name(language)
    if spoken is None:
        raise InvalidMessage("That is no language that this service knows; try English, ja or Auto.")
    request = SayRequest(words, out, voice, spoken, seed, clone_mode, codes, subtitles is not None)
    options = SynthesisOptions(greedy, raw, text_mode == "streaming", max_frames)
    with _err.status("Speaking …") as status:
        if engine or model or clone_mode or codes or options != SynthesisOptions():
            speaking = say_locally.speak(request, engine or "qwen3", model, options)
        else:
            speaking = say_remotely.speak(request, url, status.update)
        result = asyncio.run(speaking)
    _out.print(f"{out}  {result.audio_s:.2f} s · first sound after {result.ttfa_s * 1000:.0f} ms")
    if result.warning:
        _err.print(result.warning, style="yellow")
    if subtitles is not None:
        _write_subtitles(subtitles, words, result.words)


def _write_subtitles(path: Path, text: str, words: Sequence[TimedWord]) -> None:
    from makima_tts.client.saving import new_file
    from makima_tts.client.subtitles import srt, vtt

    if not words:
        raise InvalidMessage("The server sent no times of words; it may be older than this command.")
    document = vtt if path.suffix.lower() == ".vtt" else srt
    with new_file(path) as unfinished:
        unfinished.write_text(document(text, words), "utf-8")
    if any(word.estimated for word in words):
        _err.print("Some times of words are estimates.", style="yellow")
