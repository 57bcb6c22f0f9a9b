"""Prompts and greedy codes equal the reference's, alone and in a batch."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from makima_tts.engines.qwen3.runner import Runner
from makima_tts.model.prompt import Prompt, PromptWriter, VoiceRows
from makima_tts.model.sampling import Sampling
from tests.checkpoints import SHAPES
from tests.checkpoints.models import POSITIONS, small_model

GOLDEN = Path(__file__).parent / "golden"
MAX_FRAMES = 100
# name: (ICL, streaming text, language)
CASES = {
    "xvector_streaming": (False, True, "English"),
    "xvector_streaming_auto": (False, True, "Auto"),
    "xvector_whole": (False, False, "Japanese"),
    "icl_streaming_long": (True, True, "German"),
    "icl_streaming_short": (True, True, "Chinese"),
    "icl_streaming_level": (True, True, "French"),
    "icl_whole": (True, False, "English"),
    "icl_whole_auto": (True, False, "Auto"),
}


@dataclass(frozen=True)
class Golden:
    """Inputs and results of the reference."""

    text: Tensor
    transcript: Tensor
    reference_codes: Tensor
    x_vector: Tensor
    rows: Tensor
    trailing: Tensor
    codes: Tensor


def golden(shape: str, case: str) -> Golden:
    tensors = load_file(GOLDEN / f"generation_{shape}.safetensors")
    own = {name.split(".")[1]: tensor for name, tensor in tensors.items() if name.split(".")[0] == case}
    return Golden(**own)


def writer(shape: str) -> PromptWriter:
    """With the role of the golden files."""
    parts = small_model(shape)
    role = (parts.config.im_start_token_id, 77, 10)
    return PromptWriter(parts.config, parts.talker, parts.predictor, role)


def prompt(shape: str, case: str, asked: Golden) -> Prompt:
    icl, streaming, language = CASES[case]
    write = writer(shape)
    voice = VoiceRows(asked.x_vector)
    if icl:
        transcript = write.text_rows(asked.transcript.tolist())
        voice = VoiceRows(asked.x_vector, transcript, write.frame_rows(asked.reference_codes))
    return write.write(asked.text.tolist(), language, voice, text_streams=streaming)


@torch.inference_mode()
def greedy_codes(shape: str, prompts: list[Prompt]) -> list[Tensor]:
    """All side by side, by way of the engine's runner: each to its end, or MAX_FRAMES."""
    model, slots = small_model(shape), range(len(prompts))
    runner = Runner(model, slots=len(prompts), positions=POSITIONS)
    for slot, written in enumerate(prompts):
        runner.begin(slot, Sampling.of(model.config.generation, greedy=True), 0, {})
        runner.prefill(runner.prefill_chunks(slot, written))
    furthest = max(len(written.rows) for written in prompts)
    frames: list[list[Tensor]] = [[] for _ in prompts]
    speaking = list(slots)
    for number in range(MAX_FRAMES):
        made = runner.generate_frames(
            speaking, speaking if number else [], furthest + number, [0] * len(speaking)
        ).wait()
        for slot, codes, ends in zip(tuple(speaking), made.codes, made.ends, strict=True):
            if ends:
                speaking.remove(slot)
            else:
                frames[slot].append(torch.from_numpy(codes))
        if not speaking:
            break
    return [torch.stack(codes) for codes in frames]


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_prompt_rows_and_trailing_text_equal_the_references(shape: str) -> None:
    for case in CASES:
        expected = golden(shape, case)
        written = prompt(shape, case, expected)
        assert written.rows.shape == expected.rows.shape, case
        assert (written.rows - expected.rows).abs().max() <= 1e-5, case
        assert written.trailing.shape == expected.trailing.shape, case
        assert (written.trailing - expected.trailing).abs().max() <= 1e-5, case


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_greedy_codes_equal_the_references_to_the_end_or_a_hundred_frames(shape: str) -> None:
    expected = {case: golden(shape, case) for case in CASES}
    ours = greedy_codes(shape, [prompt(shape, case, asked) for case, asked in expected.items()])
    for case, codes in zip(CASES, ours, strict=True):
        assert torch.equal(codes, expected[case].codes), case


def test_some_golden_codes_reach_the_end_of_speech_and_some_the_limit() -> None:
    lengths = [len(golden(shape, case).codes) for shape in SHAPES for case in CASES]
    assert lengths.count(MAX_FRAMES) > 10
    assert sum(length < MAX_FRAMES for length in lengths) > 3
    assert min(lengths) >= 2
