"""``say`` with a checkpoint, in this process: every option that compares it with its reference."""

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tests.checkpoints import QUICK
from tests.checkpoints.models import ENDING, checkpoint_folder
from tests.cli.conftest import Done, Run
from tests.voices.clips import TRANSCRIPT, sound_file, speech
from tests.voices.conftest import make_voice

CODEBOOKS = QUICK.codebooks
FRAME_SAMPLES = 1920
TEXT = "The lamps are lit. The harbour glows."

Pcm = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SayResult:
    """A sound file, and the codes beside it if they were asked for."""

    pcm: Pcm
    subtype: str
    codes: npt.NDArray[np.int64] | None


@dataclass(frozen=True)
class Say:
    """``say`` with the small checkpoint, from ``folder``, where its voices are too."""

    run: Run
    folder: Path

    def __call__(self, *options: str, text: str = TEXT) -> SayResult:
        done = self.try_to(*options, text=text)
        assert done.returncode == 0, done.stderr
        sound = self.folder / "speech.wav"
        pcm, rate_hz = soundfile.read(sound, dtype="float32")
        assert rate_hz == 24_000
        codes = self.folder / "codes.npy"
        return SayResult(pcm, soundfile.info(sound).subtype, np.load(codes) if codes.exists() else None)

    def try_to(self, *options: str, text: str = TEXT) -> Done:
        model = str(checkpoint_folder(ENDING))
        return self.run("say", text, "--model", model, *options, offline=True, device="cpu")


@pytest.fixture
def say(run: Run, tmp_path: Path) -> Say:
    return Say(run, tmp_path)


def same_sound(first: Pcm, second: Pcm) -> bool:
    return first.shape == second.shape and bool(np.abs(first - second).max() < 2**-14)


def test_the_same_seed_gives_the_same_sound(say: Say) -> None:
    first, again, other = (say("--seed", seed) for seed in ("1", "1", "2"))
    assert first.subtype == "PCM_16"
    assert first.codes is None
    assert same_sound(first.pcm, again.pcm)
    assert not same_sound(first.pcm, other.pcm)


def test_greedily_and_raw_the_sound_is_of_exactly_the_codes_that_are_written(say: Say) -> None:
    options = ("--greedy", "--raw", "--codes", "codes.npy")
    first, again = say(*options, "--seed", "1"), say(*options, "--seed", "2")
    assert first.codes is not None
    assert again.codes is not None
    assert first.subtype == "FLOAT"
    assert first.codes.dtype == np.int64
    assert first.codes.shape == (first.pcm.size // FRAME_SAMPLES, CODEBOOKS)
    assert 0 <= first.codes.min() <= first.codes.max() < QUICK.talker["vocab_size"]
    assert np.array_equal(first.codes, again.codes)
    assert same_sound(first.pcm, again.pcm)


def test_raw_is_one_prompt_of_the_whole_text_and_not_one_for_each_sentence(say: Say) -> None:
    options = ("--greedy", "--codes", "codes.npy")
    raw, cooked = say(*options, "--raw"), say(*options)
    assert raw.codes is not None
    assert cooked.codes is not None
    assert not np.array_equal(raw.codes, cooked.codes)


def test_raw_clones_the_clip_as_it_lies_on_the_disk(say: Say) -> None:
    """Which a server would refuse: it asks for three seconds, so that a voice is worth cloning."""
    make_voice(say.folder / "voices", "brief", clip=sound_file(speech(2.0)))
    refused = say.try_to("--voice", "brief")
    assert refused.returncode == 1
    assert "The clip holds only 2.0 s of sound." in refused.stderr
    assert say("--voice", "brief", "--greedy", "--raw").pcm.size


def test_a_frame_is_the_least_that_can_be_asked_for(say: Say) -> None:
    one = say("--greedy", "--raw", "--max-frames", "1", "--codes", "codes.npy")
    assert one.codes is not None
    assert one.codes.shape == (1, CODEBOOKS)
    assert one.pcm.size == FRAME_SAMPLES
    refused = say.try_to("--max-frames", "0")
    assert refused.returncode != 0
    assert "--max-frames" in refused.stderr


def test_text_read_before_speech_is_another_prompt(say: Say) -> None:
    options = ("--greedy", "--raw", "--max-frames", "4", "--codes", "codes.npy")
    along, before = (say(*options, "--text-mode", mode).codes for mode in ("streaming", "full"))
    assert along is not None
    assert before is not None
    assert not np.array_equal(along, before)


def test_text_comes_from_standard_input(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    given = say("--greedy").pcm
    monkeypatch.setattr("sys.stdin", io.StringIO(TEXT))
    assert same_sound(say("--greedy", text="-").pcm, given)


def test_the_default_voice_speaks_once_it_is_there(say: Say) -> None:
    narrated = say("--greedy").pcm
    assert same_sound(say("--greedy", "--voice", "narrator").pcm, narrated)
    make_voice(say.folder / "voices", "makima")
    own = say("--greedy").pcm
    assert not same_sound(own, narrated)
    assert same_sound(say("--greedy", "--voice", "makima").pcm, own)
    # Another way of cloning is asked for: of whom, is as before.
    assert same_sound(say("--greedy", "--clone-mode", "icl").pcm, own)


def test_without_a_transcript_a_voice_is_cloned_from_its_sound_alone(say: Say) -> None:
    make_voice(say.folder / "voices", "anna", transcript=None)
    for options in ((), ("--clone-mode", "icl"), ("--raw",)):
        refused = say.try_to("--voice", "anna", *options)
        assert refused.returncode == 1, options
        assert "transcript" in refused.stderr
        assert "Traceback" not in refused.stderr
    alone = say("--greedy", "--voice", "anna", "--clone-mode", "xvector").pcm
    make_voice(say.folder / "voices", "berta", transcript=TRANSCRIPT)
    assert same_sound(say("--greedy", "--voice", "berta", "--clone-mode", "xvector").pcm, alone)
    assert not same_sound(say("--greedy", "--voice", "berta").pcm, alone)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--codes", "codes.txt"), ".npy"),
        (("--codes", "nowhere/codes.npy"), ".npy"),
        (("--out", "speech.mp3"), ".wav"),
        (("--engine", "scripted", "--greedy"), "Only Qwen3-TTS takes --greedy"),
        (("--language", "Klingon"), "no language"),
        (("--voice", "nobody"), "nobody"),
        (("--voice", "nobody", "--raw"), "nobody"),
        (("--text-mode", "backwards"), "--text-mode"),
        (("--clone-mode", "twice"), "--clone-mode"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_meant_is_refused_in_words(options: tuple[str, ...], words: str, say: Say) -> None:
    refused = say.try_to(*options)
    assert refused.returncode != 0
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list(say.folder.glob("*.wav")) == list(say.folder.glob("*.npy")) == []


def test_a_checkpoint_that_is_none_is_said(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint_folder(ENDING), tmp_path / "mine"))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    refused = run("say", TEXT, "--model", str(folder), offline=True)
    assert refused.returncode == 1
    assert "config.json is not of a Qwen3-TTS" in refused.stderr
