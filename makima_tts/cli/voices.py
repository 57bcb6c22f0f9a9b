"""``makima-tts voices``: the voices that clients may ask for, and how well one is cloned.

In: ids, clips. Out: listings and reports on the terminal. Does not know: how voices are stored and encoded.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from makima_tts.errors import SynthesisError, TtsError

if TYPE_CHECKING:
    from makima_tts.audio import ClipReport
    from makima_tts.engines.qwen3 import Qwen3Engine
    from makima_tts.speech import SpeechEngine
    from makima_tts.voices import VoiceManager

SIMILARITY_AIM = 0.90
# An x-vector of less speech says little about the speaker.
_MIN_SPEECH_S = 1.0
_SEED = 0

# About five seconds each.
_ENGLISH = "The rain had stopped by the time we reached the harbour, and one by one the lamps were lit."
_SENTENCES = {
    "Chinese": "我们走到港口的时候雨已经停了，路边的灯一盏一盏地亮了起来。",  # noqa: RUF001
    "English": _ENGLISH,
    "French": "La pluie avait cessé quand nous sommes arrivés au port, et les lampes s'allumaient une à une.",
    "German": "Es regnete nicht mehr, und am Hafen gingen langsam, eine nach der anderen, die Lampen an.",
    "Italian": "La pioggia era finita quando arrivammo al porto, e le luci si accendevano una dopo l'altra.",
    "Japanese": "港に着いたころには雨はもう上がっていて、明かりが一つずつともり始めました。",
    "Korean": "우리가 항구에 도착했을 때는 비가 이미 그쳤고, 불빛이 하나둘 켜지고 있었습니다.",
    "Portuguese": "A chuva tinha parado quando chegamos ao porto, e as luzes se acendiam uma a uma.",
    "Russian": "Когда мы добрались до гавани, дождь уже кончился, и один за другим зажигались фонари.",
    "Spanish": "La lluvia había cesado cuando llegamos al puerto, y las luces se encendían una a una.",
}


# What is shown may come from a manifest: nothing in it is markup.
_out = Console(markup=False, highlight=False)
_err = Console(stderr=True, markup=False, highlight=False)

voices_app = typer.Typer(help="The voices that clients may ask for.", no_args_is_help=True)


@voices_app.command("list")
def list_voices() -> None:
    """Every voice, and why one is not available."""
    table = Table("id", "name", "language", "available", "reason", box=None, header_style="bold")
    for voice in _voices()[0].list():
        mark = " (default)" if voice.is_default else ""
        available = "yes" if voice.available else "no"
        table.add_row(voice.id + mark, voice.name, voice.language, available, voice.reason or "")
    _out.print(table)


@voices_app.command("add")
def add_voice(
    clip: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A recording, 3-60 s: WAV, MP3, M4A …")
    ],
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
        voice, report = asyncio.run(_voices()[0].add(upload))
    _out.print(f"Added {voice.id}.")
    _print_report(report)


@voices_app.command("remove")
def remove_voice(voice_id: Annotated[str, typer.Argument(help="The voice's id.")]) -> None:
    """Remove a voice that was added; shipped ones stay."""
    asyncio.run(_voices()[0].delete(voice_id))
    _out.print(f"Removed {voice_id}.")


@voices_app.command("check")
def check_voice(voice_id: Annotated[str, typer.Argument(help="The voice's id.")]) -> None:
    """Report on a voice's clip: level, noise, length, what to do about it; and on how well it is cloned.

    Where Qwen3-TTS can run, it speaks a sentence, of which the speaker similarity is measured.
    """
    from makima_tts import logs

    logs.configure("warning", "auto")
    with _err.status("Checking …") as status:
        report, advice = asyncio.run(_check(voice_id, status.update))
    _print_report(report)
    _out.print(advice)


async def _check(voice_id: str, show_status: Callable[[str], None]) -> "tuple[ClipReport, str]":
    """The report on the clip, and the similarity in words, or why it was not measured.

    Raises VoiceNotFound and InvalidClip for a voice without a usable clip.
    """
    from makima_tts.engines.qwen3 import Qwen3Engine

    voices, engine = _voices(max_streams=1)
    report = await voices.check(voice_id)
    if not isinstance(engine, Qwen3Engine):
        why = f"Qwen3-TTS measures it, and the engine here is {engine.facts.name}; see makima-tts doctor."
        return report, f"No speaker similarity: {why}"
    try:
        return report, similarity_advice(await _measure(engine, voices, voice_id, show_status))
    except TtsError as error:
        return report, f"No speaker similarity: {error.message}"


def similarity_advice(similarity: float) -> str:
    """The cosine of two x-vectors, of a clip and of speech; the aim; and what to do about less."""
    if similarity >= SIMILARITY_AIM:
        return f"Speaker similarity {similarity:.3f}; {SIMILARITY_AIM:.2f} or more is what to aim at."
    return (
        f"Speaker similarity {similarity:.3f}, less than the {SIMILARITY_AIM:.2f} to aim at: use 5 to 15 s "
        "of one person in a quiet room, without music or echo, in the language to be spoken, and clone with "
        "the transcript (mode icl), every word of it as it is said."
    )


async def _measure(
    engine: "Qwen3Engine", voices: "VoiceManager", voice_id: str, show_status: Callable[[str], None]
) -> float:
    import numpy as np

    from makima_tts import factory
    from makima_tts.cli.say_locally import stream_of
    from makima_tts.speech import UtteranceRequest

    async with factory.running(engine, lambda stage, _progress: show_status(f"{stage.capitalize()} …")):
        show_status(f"Encoding {voice_id} …")
        prompt = (await voices.get(voice_id)).prompt
        show_status(f"Speaking as {voice_id} …")
        language = voices.describe(voice_id).language
        request = UtteranceRequest("check", language, prompt, _SEED)
        stream = stream_of(engine, request, _SENTENCES.get(language, _ENGLISH))
        data = b"".join([chunk.data async for chunk in stream.chunks()])
        pcm = np.frombuffer(data, np.float32).copy()
        if prompt is None or pcm.size < _MIN_SPEECH_S * engine.facts.sample_rate_hz:
            raise SynthesisError("This voice said next to nothing of a whole sentence; use another clip.")
        return await engine.similarity(prompt, pcm)


def _voices(**settings: object) -> "tuple[VoiceManager, SpeechEngine]":
    """The operator's voices, as a server with these settings would see them, and its engine."""
    from makima_tts import factory
    from makima_tts.metrics import Metrics
    from makima_tts.settings import load_settings

    used = load_settings(**settings)
    engine = factory.build_engine(factory.choose_engine(used), used)
    return factory.build_voices(used, engine, Metrics()), engine


def _print_report(report: "ClipReport") -> None:
    table = Table("", "", box=None, show_header=False)
    for name, value in report.model_dump().items():
        if value not in (None, [], ()):
            words = ", ".join(value) if isinstance(value, list | tuple) else str(value)
            table.add_row(name.replace("_", " "), words)
    _out.print(table)
