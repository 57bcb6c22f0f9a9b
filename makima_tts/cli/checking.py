"""What comes of trying a voice: what its clip is like, and how much speech in it sounds like the clip.

In: a voice's id. Out: a report, and the speaker similarity where it can be measured. Does not know: the
terminal, how voices are encoded.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from makima_tts import factory
from makima_tts.audio import ClipReport
from makima_tts.engines.qwen3 import Qwen3Engine
from makima_tts.errors import SynthesisError, TtsError
from makima_tts.metrics import Metrics
from makima_tts.settings import load_settings
from makima_tts.speaking.stream import AudioOutput, UtteranceStream
from makima_tts.speech import SpeechEngine, UtteranceRequest, VoicePrompt
from makima_tts.voices import VoiceManager

AIM = 0.90
# Below it, an x-vector says little about who speaks.
_LEAST_S = 1.0
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


@dataclass(frozen=True, slots=True)
class Checked:
    """``similarity``: cosine of x-vectors, of the clip and of speech; None where it was not measured.

    ``words`` say what it comes to, or why there is none.
    """

    report: ClipReport
    similarity: float | None
    words: str


async def check(voice_id: str, tell: Callable[[str], None]) -> Checked:
    """``tell`` hears what is being done. Raises VoiceNotFound and InvalidClip for what has no usable clip."""
    settings = load_settings().model_copy(update={"max_streams": 1})
    engine = factory.build_engine(factory.choose_engine(settings), settings)
    voices = factory.build_voices(settings, engine, Metrics())
    report = await voices.check(voice_id)
    if not isinstance(engine, Qwen3Engine):
        why = f"Qwen3-TTS measures it, and the engine here is {engine.facts.name}; see makima-tts doctor."
        return Checked(report, None, f"No speaker similarity: {why}")
    try:
        similarity = await _measure(engine, voices, voice_id, tell)
    except TtsError as error:
        return Checked(report, None, f"No speaker similarity: {error.message}")
    return Checked(report, similarity, in_words(similarity))


def in_words(similarity: float) -> str:
    """A figure, what to aim at, and what to do when it is less."""
    if similarity >= AIM:
        return f"Speaker similarity {similarity:.3f}; {AIM:.2f} or more is what to aim at."
    return (
        f"Speaker similarity {similarity:.3f}, less than the {AIM:.2f} to aim at: use 5 to 15 s of one "
        "person in a quiet room, without music or echo, in the language to be spoken, and clone with the "
        "transcript (mode icl), every word of it as it is said."
    )


async def _measure(
    engine: Qwen3Engine, voices: VoiceManager, voice_id: str, tell: Callable[[str], None]
) -> float:
    async with factory.running(engine, lambda progress: tell(f"{progress.stage.capitalize()} …")):
        tell(f"Encoding {voice_id} …")
        prompt = (await voices.get(voice_id)).prompt
        tell(f"Speaking as {voice_id} …")
        language = voices.describe(voice_id).language
        pcm = await _speak(engine, prompt, language)
        if prompt is None or pcm.size < _LEAST_S * engine.facts.sample_rate_hz:
            raise SynthesisError("This voice said next to nothing of a whole sentence; use another clip.")
        return await engine.similarity(prompt, pcm)


async def _speak(engine: SpeechEngine, prompt: VoicePrompt | None, language: str) -> npt.NDArray[np.float32]:
    """A sentence in this language: float32 [samples]."""
    output = AudioOutput("pcm32f", engine.facts.sample_rate_hz)
    stream = UtteranceStream(engine, UtteranceRequest("check", language, prompt, _SEED), output, Metrics())
    stream.feed(_SENTENCES.get(language, _ENGLISH))
    stream.finish()
    return np.frombuffer(b"".join([chunk.data async for chunk in stream.chunks()]), np.float32).copy()
