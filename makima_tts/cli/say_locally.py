"""``makima-tts say`` in this process, without a server: with ``--engine`` or ``--model``.

In: a text, and how to say it. Out: a WAV file, if asked for the codes too. Does not know: the terminal.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from makima_tts import factory
from makima_tts.cli.say import SayRequest, SayResult
from makima_tts.client.saving import new_file
from makima_tts.engines.qwen3 import SynthesisOptions
from makima_tts.errors import InvalidMessage
from makima_tts.metrics import Metrics
from makima_tts.settings import Settings, load_settings
from makima_tts.speaking import AudioOutput, UtteranceStream
from makima_tts.speech import SpeechEngine, UtteranceRequest
from makima_tts.text import nothing_to_say, pieces_of
from makima_tts.text.words import WordTime
from makima_tts.timings import WordTimer, timed_words
from makima_tts.voices import ResolvedVoice, VoiceManager

_UTTERANCE = "say"
# Rows of a prompt beside the text: the longest clip and its transcript.
_PROMPT_ROWS = 3072
# The limit of the package with the published generation_config.json: 8192 codes, the last of them no frame.
_MAX_RAW_FRAMES = 8191


async def speak(
    request: SayRequest, engine_name: str, model_id: str | None, options: SynthesisOptions
) -> SayResult:
    """Raises what the engine raises; InvalidMessage for options that this engine does not have."""
    settings = load_settings(
        engine=engine_name, max_streams=1, **({"model_id": model_id} if model_id else {})
    )
    cleaned = pieces_of(request.text, settings.text_cleaning, request.language)
    pieces = [request.text] if options.raw else [piece.text for piece in cleaned]
    if not "".join(pieces).strip():
        raise nothing_to_say(request.text)
    frames: list[npt.NDArray[np.int64]] = []
    engine = _engine(settings, request, options, frames)
    async with factory.running(engine):
        voice = await _voice(factory.build_voices(settings, engine, Metrics()), engine, request, options.raw)
        utterance = UtteranceRequest(_UTTERANCE, request.language, voice.prompt, request.seed)
        timer = WordTimer(request.language) if request.word_times else None
        stream = stream_of(engine, utterance, *pieces, words=timer)
        subtype = "FLOAT" if options.raw else "PCM_16"
        audio_s, times = await _write(request.path, stream, engine.facts.sample_rate_hz, subtype)
    if request.codes is not None:  # every utterance has frames: the model may not end before two
        with new_file(request.codes) as unfinished, unfinished.open("wb") as file:
            np.save(file, np.stack(frames))
    words = timed_words(request.text, cleaned, times)
    return SayResult(audio_s, stream.ttfa_s or 0.0, voice.warning, words)


def stream_of(
    engine: SpeechEngine, request: UtteranceRequest, *pieces: str, words: WordTimer | None = None
) -> UtteranceStream:
    """Float32 samples at the engine's own rate; all of the text is there."""
    output = AudioOutput("pcm32f", engine.facts.sample_rate_hz)
    stream = UtteranceStream(engine, request, output, Metrics(), words=words)
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    return stream


def _engine(
    settings: Settings, request: SayRequest, options: SynthesisOptions, frames: list[npt.NDArray[np.int64]]
) -> SpeechEngine:
    choice = factory.choose_engine(settings)
    if choice.name != "qwen3":
        if options != SynthesisOptions() or request.clone_mode or request.codes:
            raise InvalidMessage("Only Qwen3-TTS takes --greedy, --raw, --codes and the like: add --model.")
        return factory.build_engine(choice, settings)
    if options.raw:  # all of the text is one piece
        max_frames = options.max_frames or _MAX_RAW_FRAMES
        positions = _PROMPT_ROWS + len(request.text.encode()) + max_frames
        options = replace(options, positions=positions, max_frames=max_frames)
    return factory.build_qwen3(
        settings,
        options,
        lambda utterance, codes: frames.append(codes) if utterance == _UTTERANCE else None,
    )


async def _voice(voices: VoiceManager, engine: SpeechEngine, request: SayRequest, raw: bool) -> ResolvedVoice:
    """As a server finds it. In another mode or raw, the voice is encoded for this utterance and not kept."""
    if not (raw or request.clone_mode):
        return await (voices.resolve(None) if request.voice is None else voices.get(request.voice))
    voice_id = request.voice or voices.expect().id
    reference = await voices.reference(voice_id, as_it_is=raw)
    reference = replace(reference, mode=request.clone_mode or reference.mode)
    return ResolvedVoice(voice_id, await engine.encode_voice(reference))


async def _write(
    path: Path, stream: UtteranceStream, rate_hz: int, subtype: str
) -> tuple[float, list[WordTime]]:
    """Write the audio while it is generated. Returns its duration in seconds, and the times of its words."""
    times: list[WordTime] = []
    with (
        new_file(path) as unfinished,
        soundfile.SoundFile(unfinished, "w", rate_hz, 1, subtype, format="WAV") as file,
    ):
        async for chunk in stream.chunks():
            file.write(np.clip(np.frombuffer(chunk.data, np.float32), -1, 1))
            times += chunk.words
        return float(file.frames / rate_hz), times
