"""Tests of the qwen-tts engine beyond the conformance suite, for the environment of its package.

MAKIMA_TTS_TEST_CHECKPOINT names a checkpoint that speaks one frame for each token of its text.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from makima_tts.engines.official import (
    FRAME_SAMPLES,
    OfficialEngine,
    OfficialModel,
    SynthesisStopped,
)
from makima_tts.errors import TtsUnavailable
from makima_tts.speech import AudioChunk, UtteranceRequest, VoiceReference
from tests.checkpoints import SHAPES, write_checkpoint

CHECKPOINT = os.environ["MAKIMA_TTS_TEST_CHECKPOINT"]


def loaded(model_id: str = CHECKPOINT, device: str = "cpu", max_frames: int | None = None) -> OfficialModel:
    model = OfficialModel(model_id, None, device, offline=True, max_frames=max_frames)
    model.import_package()
    model.load()
    return model


REQUEST = UtteranceRequest("utterance", seed=1)


@pytest.fixture(scope="module")
def model() -> Iterator[OfficialModel]:
    model = loaded()
    yield model
    model.unload()


async def heard_of(engine: OfficialEngine, *pieces: str) -> tuple[list[AudioChunk], str | None]:
    stream = engine.open(UtteranceRequest("utterance", seed=1))
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    return [chunk async for chunk in stream], stream.finish_reason


async def test_a_piece_without_an_end_is_truncated_and_the_next_is_spoken() -> None:
    engine = OfficialEngine(OfficialModel(CHECKPOINT, device="cpu", offline=True, max_frames=8))
    await engine.start(lambda *_: None)
    chunks, reason = await heard_of(engine, "This piece is longer than eight frames.", "Short.")
    frames = [sum(c.pcm.size for c in chunks if c.piece_index == n) / FRAME_SAMPLES for n in (0, 1)]
    assert frames == [8, 7]
    assert reason == "length"
    assert (await heard_of(engine, "Short."))[1] == "stop"
    await engine.close()


def test_a_cancel_takes_effect_before_the_next_frame(model: OfficialModel) -> None:
    cancelled = iter([False, False, False, True])
    with pytest.raises(SynthesisStopped):
        model.synthesize(
            REQUEST, "This sentence would take some thirty frames.", stopped=lambda: next(cancelled)
        )
    assert list(cancelled) == []
    assert model.synthesize(REQUEST, "The next one is spoken.").pcm.size


def test_special_tokens_in_a_text_are_plain_characters(model: OfficialModel) -> None:
    expected = model.synthesize(REQUEST, "One < |im_end|> two < |im_start|>.")
    assert np.array_equal(model.synthesize(REQUEST, "One <|im_end|> two <|im_start|>.").pcm, expected.pcm)


def test_a_model_in_a_folder_uses_the_pre_tokenizer_of_its_training(tmp_path: Path) -> None:
    """The package takes a model of this size, saved by this transformers release, for a Mistral model."""
    shape = SHAPES["wide"]
    write_checkpoint(
        tmp_path,
        replace(shape, first_special_id=100_100, talker={**shape.talker, "text_vocab_size": 100_164}),
    )
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_version": "4.57.3"}))
    tokenizer = loaded(str(tmp_path))._reference.processor.tokenizer  # the pre-tokenizer
    words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("iPhone")
    assert [word for word, _ in words] == ["iPhone"]


def test_a_voice_prompt_holds_plain_arrays(model: OfficialModel) -> None:
    pcm = np.sin(np.arange(72_000) / 20).astype(np.float32)
    icl = model.encode(VoiceReference(pcm, 24_000, "Ünder.", "English", "icl"))
    embedded = model.encode(VoiceReference(pcm, 24_000, "Ünder.", "English", "xvector"))
    assert icl["ref_code"].shape[0] == pytest.approx(3 * 12.5, abs=1)
    assert icl["ref_code"].dtype == np.int64
    assert icl["transcript"].tobytes().decode() == "Ünder."
    assert np.array_equal(icl["x_vector"], embedded["x_vector"])
    assert set(embedded) == {"x_vector", "icl"}


@pytest.mark.parametrize("device", ["cuda:99", "cuda:", "cuda:-1", "tpu", "", "cpu:0:0"])
def test_a_missing_device_is_a_clear_error(device: str) -> None:
    with pytest.raises(TtsUnavailable, match="TTS_DEVICE"):
        loaded(device=device)


@pytest.mark.parametrize("model_id", ["nobody/has-this", "/there/is/no/such/folder", ".", ""])
def test_a_missing_model_is_a_clear_error(
    model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TtsUnavailable, match="TTS_MODEL_ID names no whole Qwen3-TTS checkpoint"):
        loaded(model_id)


def test_a_model_with_an_id_is_found_on_disk_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model, commit = tmp_path / "models--somebody--their-model", "0" * 40
    (model / "snapshots").mkdir(parents=True)
    (model / "snapshots" / commit).symlink_to(CHECKPOINT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    assert loaded("somebody/their-model").synthesize(REQUEST, "Here it is.").pcm.size


def test_an_incomplete_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(Path(CHECKPOINT) / name)
    with pytest.raises(TtsUnavailable, match="TTS_MODEL_ID names no whole Qwen3-TTS checkpoint"):
        loaded(str(tmp_path))


def test_a_model_that_clones_no_voices_is_refused(tmp_path: Path) -> None:
    for path in Path(CHECKPOINT).iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(config.replace('"base"', '"custom_voice"'))
    with pytest.raises(TtsUnavailable, match="Base model"):
        loaded(str(tmp_path))
