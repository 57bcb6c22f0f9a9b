"""A configuration that does not fit together is refused before anything is loaded, in words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from makima_tts.errors import TtsUnavailable
from makima_tts.model.checkpoint.config import CODEC_CONFIG, GENERATION_CONFIG, MODEL_CONFIG, load_config
from tests.checkpoints.models import checkpoint_folder

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[str, Edit], Path]:
    """A checkpoint's configuration, one file of it changed."""

    def edit(name: str, change: Edit) -> Path:
        folder = tmp_path / "model"
        for file in (MODEL_CONFIG, GENERATION_CONFIG, CODEC_CONFIG):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkpoint_folder("odd") / file, folder / file)
        fields = json.loads((folder / name).read_text())
        change(fields)
        (folder / name).write_text(json.dumps(fields))
        return folder

    return edit


def test_a_published_configuration_is_read(edited: Callable[[str, Edit], Path]) -> None:
    config = load_config(edited(MODEL_CONFIG, lambda fields: None))
    assert config.talker_config.head_size == 16
    assert config.talker_config.rope_theta == 1_000_000
    assert config.codec.decoder_config.sliding_window == 12


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (MODEL_CONFIG, lambda f: f.update(tts_model_type="custom_voice"), "tts_model_type"),
        (MODEL_CONFIG, lambda f: f["talker_config"].update(num_code_groups=8), "num_code_groups"),
        (MODEL_CONFIG, lambda f: f["talker_config"].update(codec_pad_id=4196), "vocab_size"),
        (MODEL_CONFIG, lambda f: f["talker_config"]["codec_language_id"].update(german=9999), "vocab_size"),
        (MODEL_CONFIG, lambda f: f["talker_config"].update(num_key_value_heads=4), "multiple"),
        (MODEL_CONFIG, lambda f: f["talker_config"].update(hidden_act="relu"), "hidden_act"),
        (MODEL_CONFIG, lambda f: f["talker_config"]["rope_scaling"].update(type="linear"), "rope_scaling"),
        (
            MODEL_CONFIG,
            lambda f: f["talker_config"]["code_predictor_config"].update(vocab_size=513),
            "more codes",
        ),
        (
            MODEL_CONFIG,
            lambda f: f["talker_config"]["code_predictor_config"].update(layer_types=["full_attention"]),
            "layer_types",
        ),
        (MODEL_CONFIG, lambda f: f["speaker_encoder_config"].update(enc_dim=7), "enc_dim"),
        (CODEC_CONFIG, lambda f: f.update(model_type="qwen3_tts_tokenizer_25hz"), "model_type"),
        (CODEC_CONFIG, lambda f: f.update(decode_upsample_rate=960), "decode_upsample_rate"),
        (CODEC_CONFIG, lambda f: f.update(encode_downsample_rate=960), "encode_downsample_rate"),
        (CODEC_CONFIG, lambda f: f["encoder_config"].update(_frame_rate=25), "frame_rate"),
        (CODEC_CONFIG, lambda f: f.update(output_sample_rate=48000), "output_sample_rate"),
        (GENERATION_CONFIG, lambda f: f.update(temperature=0), "temperature"),
    ],
)
def test_what_does_not_fit_is_named(
    name: str, change: Edit, words: str, edited: Callable[[str, Edit], Path]
) -> None:
    with pytest.raises(TtsUnavailable, match=words) as refusal:
        load_config(edited(name, change))
    assert name in refusal.value.message or name == CODEC_CONFIG
