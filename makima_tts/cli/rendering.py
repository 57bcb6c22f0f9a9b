"""Saying one text into files in this process, without a server: what ``say --engine`` and ``--model`` do.

In: a text, and how to say it. Out: a WAV file, if asked for the codes too. Does not know: the terminal.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from makima_tts import factory
from makima_tts.cli.saying import Said, Wanted, check_path, known_language
from makima_tts.client.saving import new_file
from makima_tts.engines.qwen3 import SynthesisOptions
from makima_tts.errors import InvalidMessage, InvalidText
from makima_tts.metrics import Metrics
from makima_tts.settings import Settings, load_settings
from makima_tts.speaking.stream import AudioOutput, UtteranceStream
from makima_tts.speech import CloneMode, SpeechEngine, UtteranceRequest
from makima_tts.text import pieces_of, why_silent
from makima_tts.voices import ResolvedVoice, VoiceManager

_UTTERANCE = "say"
# Rows of a prompt beside the text: the longest clip and its transcript.
_PROMPT_ROWS = 3072
# What the package allows by the published generation_config.json: 8192 codes, the last of them no frame.
_MOST_RAW_FRAMES = 8191


@dataclass(frozen=True, slots=True)
class Rendering:
    """How Qwen3-TTS says one text: for comparing it with the reference package.

    ``raw``: nothing that the reference does not do. ``codes``: where to write them, int64 [frames, Q].
    """

    greedy: bool = False
    raw: bool = False
    max_frames: int | None = None
    text_streams: bool = True
    clone_mode: CloneMode | None = None
    codes: Path | None = None

    @property
    def plain(self) -> bool:
        """Whether it is as a server would say it."""
        return self == Rendering()


async def render(wanted: Wanted, engine_name: str, model_id: str | None, manner: Rendering) -> Said:
    """Raises what the engine raises; InvalidMessage for what cannot be meant."""
    check_path(wanted.path, ".wav")
    if manner.codes is not None:
        check_path(manner.codes, ".npy")
    chosen = {"engine": engine_name} | ({"model_id": model_id} if model_id else {})
    settings = Settings.model_validate({**load_settings().model_dump(), **chosen})
    pieces = [wanted.text] if manner.raw else _pieces(wanted.text, settings)
    if not "".join(pieces).strip():
        raise InvalidText(why_silent(wanted.text))
    frames: list[npt.NDArray[np.int64]] = []
    engine = _engine(settings, wanted, manner, frames)
    async with factory.running(engine):
        voices = factory.build_voices(settings, engine, Metrics())
        voice = await _voice(voices, engine, wanted, manner)
        stream = _stream(engine, wanted, voice, pieces)
        subtype = "FLOAT" if manner.raw else "PCM_16"
        audio_s = await _write(wanted.path, stream, engine.facts.sample_rate_hz, subtype)
    if manner.codes is not None:
        _write_codes(manner.codes, frames)
    return Said(wanted.path, audio_s, stream.ttfa_s or 0.0, voice.warning)


def _pieces(text: str, settings: Settings) -> list[str]:
    return [piece.text for piece in pieces_of(text, settings.text_cleaning)]


def _engine(
    settings: Settings, wanted: Wanted, manner: Rendering, frames: list[npt.NDArray[np.int64]]
) -> SpeechEngine:
    choice = factory.choose_engine(settings)
    if choice.name != "qwen3":
        if not manner.plain:
            raise InvalidMessage("Only Qwen3-TTS takes --greedy, --raw, --codes and the like: add --model.")
        return factory.build_engine(choice, settings)
    engine_options = SynthesisOptions(
        greedy=manner.greedy,
        raw=manner.raw,
        text_streams=manner.text_streams,
        max_frames=manner.max_frames,
    )
    if manner.raw:  # all of the text is one piece
        most = manner.max_frames or _MOST_RAW_FRAMES
        positions = _PROMPT_ROWS + len(wanted.text.encode()) + most
        engine_options = replace(engine_options, positions=positions, max_frames=most)
    return factory.build_qwen3(
        settings.model_copy(update={"max_streams": 1}),
        engine_options,
        lambda utterance, codes: frames.append(codes) if utterance == _UTTERANCE else None,
    )


async def _voice(
    voices: VoiceManager, engine: SpeechEngine, wanted: Wanted, manner: Rendering
) -> ResolvedVoice:
    """As a server would find it; but in another mode or raw, it is encoded for the purpose and not kept."""
    if not (manner.raw or manner.clone_mode):
        return await (voices.resolve(None) if wanted.voice is None else voices.get(wanted.voice))
    voice_id = wanted.voice or voices.expect().id
    reference = await voices.reference(voice_id, as_it_is=manner.raw)
    reference = replace(reference, mode=manner.clone_mode or reference.mode)
    return ResolvedVoice(voice_id, await engine.encode_voice(reference))


async def _write(path: Path, stream: UtteranceStream, rate_hz: int, subtype: str) -> float:
    """Write the audio while it is generated. Returns its duration in seconds."""
    with (
        new_file(path) as unfinished,
        soundfile.SoundFile(unfinished, "w", rate_hz, 1, subtype, format="WAV") as file,
    ):
        async for chunk in stream.chunks():
            file.write(np.clip(np.frombuffer(chunk.data, np.float32), -1, 1))
        return float(file.frames / rate_hz)


def _write_codes(path: Path, frames: list[npt.NDArray[np.int64]]) -> None:
    """int64 [frames, Q]. Every utterance has frames: the model may not end before two."""
    with new_file(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, np.stack(frames))


def _stream(engine: SpeechEngine, wanted: Wanted, voice: ResolvedVoice, pieces: list[str]) -> UtteranceStream:
    request = UtteranceRequest(_UTTERANCE, known_language(wanted.language), voice.prompt, wanted.seed)
    stream = UtteranceStream(engine, request, AudioOutput("pcm32f", engine.facts.sample_rate_hz), Metrics())
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    return stream
