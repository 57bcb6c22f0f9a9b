"""A stream's frames depend on its prompt and its seed alone: not on its slot, its company or its past."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from makima_tts.engines.qwen3.runner import Runner
from makima_tts.model.checkpoint.config import GenerationConfig
from makima_tts.model.prompt import Prompt, VoiceRows, split_into_chunks
from makima_tts.model.sampling import Sampling, uniform
from makima_tts.model.speech_model import SpeechModel
from tests.checkpoints.models import POSITIONS, small_model

FRAMES = 8
TEXTS = ("The lamps are lit.", "Who is there?", "A longer text than the others, to be read for longer.")


@pytest.fixture(params=[("odd", None), ("windowed", None), ("odd", 4), ("windowed", 8)], ids=str)
def model(request: pytest.FixtureRequest) -> SpeechModel:
    """By the bits of its weights, where they are quantized."""
    shape, bits = request.param
    return small_model(shape, weight_bits=bits)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def prompt(model: SpeechModel, text: str) -> Prompt:
    return model.prompts.write(model.tokenizer.encode(text), "English", VoiceRows())


def new_runner(model: SpeechModel, slots: int = 8) -> Runner:
    return Runner(model, slots=slots, positions=POSITIONS)


def begin(
    runner: Runner, model: SpeechModel, slot: int, text: str, seed: int, *, sampling: Sampling | None = None
) -> int:
    """Returns where its next row goes."""
    written = prompt(model, text)
    runner.begin(slot, sampling or Sampling.of(model.config.generation), seed, {})
    runner.prefill(runner.prefill_chunks(slot, written))
    return len(written.rows)


def frames(runner: Runner, slots: Sequence[int], positions: int, count: int = FRAMES) -> list[Tensor]:
    """``count`` frames of each slot: [count, Q] each."""
    made = [
        runner.generate_frames(slots, slots if number else [], positions + number, [0] * len(slots))
        .wait()
        .codes
        for number in range(count)
    ]
    return list(torch.from_numpy(np.stack(made)).transpose(0, 1))


def alone(model: SpeechModel, text: str, seed: int, slot: int = 0) -> Tensor:
    runner = new_runner(model)
    return frames(runner, [slot], begin(runner, model, slot, text, seed))[0]


def test_a_seed_gives_the_same_codes_in_every_slot(model: SpeechModel) -> None:
    first, last = (alone(model, TEXTS[0], 11, slot) for slot in (0, 7))
    assert torch.equal(first, last)
    assert not torch.equal(first, alone(model, TEXTS[0], 12))


def test_a_seed_gives_the_same_codes_alone_and_among_five(model: SpeechModel) -> None:
    runner = new_runner(model)
    company = [(TEXTS[number % 3], 20 + number) for number in range(5)]
    furthest = max(begin(runner, model, slot, *one) for slot, one in enumerate(company))
    together = frames(runner, range(5), furthest)
    for codes, (text, seed) in zip(together, company, strict=True):
        assert torch.equal(codes, alone(model, text, seed))


def test_a_neighbour_that_leaves_and_one_that_comes_change_nothing(model: SpeechModel) -> None:
    expected = alone(model, TEXTS[0], 31)
    runner = new_runner(model)
    position = begin(runner, model, 0, TEXTS[0], 31)
    other = begin(runner, model, 1, TEXTS[1], 32)
    together = frames(runner, [0, 1], max(position, other), 3)[0]
    newcomer = begin(runner, model, 1, TEXTS[2], 33)
    made = [runner.generate_frames([0, 1], [0], max(position + 3, newcomer), [0, 0]).wait().codes[0]]
    made += [
        runner.generate_frames([0, 1], [0, 1], newcomer + 4 + number, [0, 0]).wait().codes[0]
        for number in range(4)
    ]
    codes = torch.cat((together, torch.from_numpy(np.stack(made))))
    assert torch.equal(codes, expected)


def test_a_slot_that_was_used_before_is_as_good_as_new(model: SpeechModel) -> None:
    runner = new_runner(model)
    frames(runner, [2], begin(runner, model, 2, TEXTS[2], 41))
    again = frames(runner, [2], begin(runner, model, 2, TEXTS[0], 42))[0]
    assert torch.equal(again, alone(model, TEXTS[0], 42))


def test_a_stream_that_is_left_out_for_a_while_goes_on_where_it_was(model: SpeechModel) -> None:
    expected = alone(model, TEXTS[0], 51)
    runner = new_runner(model)
    position = begin(runner, model, 0, TEXTS[0], 51)
    other = begin(runner, model, 1, TEXTS[1], 52)
    before = frames(runner, [0, 1], max(position, other), 3)[0]
    for number in range(4):
        runner.generate_frames([1], [1], other + 3 + number, [0])
    furthest = max(position, other) + 7
    after = [
        runner.generate_frames([0], [0], furthest + number, [0]).wait().codes[0]
        for number in range(FRAMES - 3)
    ]
    assert torch.equal(torch.cat((before, torch.from_numpy(np.stack(after)))), expected)


def test_each_frame_draws_the_random_numbers_of_its_own_number(
    model: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []

    def recorded(seeds: Tensor, of_frames: Tensor, codebook: int | Tensor) -> Tensor:
        numbers.extend(of_frames.flatten().tolist())
        return uniform(seeds, of_frames, codebook)

    monkeypatch.setattr("makima_tts.model.sampling.uniform", recorded)
    runner, written = new_runner(model), prompt(model, TEXTS[0])
    runner.begin(0, Sampling.of(model.config.generation), 46, {})
    runner.prefill(runner.prefill_chunks(0, written, frame=7))
    frames(runner, [0], len(written.rows), 4)
    assert numbers == [7, 8, 9, 10]


def test_what_was_chosen_before_the_prompt_is_not_penalized(model: SpeechModel) -> None:
    """With a penalty that leaves nothing twice, the same piece is said again as if it were the first."""
    written, runner = prompt(model, TEXTS[0]), new_runner(model)
    runner.begin(0, Sampling.of(GenerationConfig(repetition_penalty=1000), greedy=True), 0, {})
    said = []
    for _ in range(2):
        runner.prefill(runner.prefill_chunks(0, written))
        said.append(frames(runner, [0], len(written.rows))[0])
    assert torch.equal(*said)
    assert len(set(said[0][:, 0].tolist())) == FRAMES


def test_what_depends_on_the_voice_may_be_read_once_for_all(model: SpeechModel) -> None:
    runner, written = new_runner(model), prompt(model, TEXTS[0])
    begin(runner, model, 0, TEXTS[0], 61)
    constant = runner.prefix(0, len(written.voice_prefix))
    runner.begin(3, Sampling.of(model.config.generation), 61, {})
    runner.restore_prefix(3, constant)
    runner.prefill(runner.prefill_chunks(3, written, prefix_cached=True))
    assert torch.equal(frames(runner, [3], len(written.rows))[0], alone(model, TEXTS[0], 61))


@pytest.mark.parametrize("split", [(1, 2, 3), (5,), (2, 2, 2, 2, 2)])
def test_text_that_grows_gives_the_same_codes_as_text_that_is_there(
    split: tuple[int, ...], model: SpeechModel
) -> None:
    ids = model.tokenizer.encode(TEXTS[0])
    expected = alone(model, TEXTS[0], 71)
    generator, state = model.frames, model.frames.new_state(4, POSITIONS, POSITIONS)
    generator.begin_utterance(state, 0, Sampling.of(model.config.generation), 71)
    begun = model.prompts.write_partial(ids[:1], "English", VoiceRows(), ended=False)
    generator.prefill(state, split_into_chunks(begun, 0, POSITIONS))
    slots = torch.tensor([0])
    rows = model.prompts.trailing_rows(ids[1:], ended=True)
    sizes, fed, codes = iter(split), 0, []
    for number in range(FRAMES):
        # Fed just in time: without a row for the next frame the stream would have to wait.
        if number >= fed:
            more = next(sizes, len(rows) - fed)
            generator.append_text(state, 0, fed, rows[fed : fed + more])
            fed += more
        if number:
            generator.step(state, slots, POSITIONS)
        codes.append(generator.generate(state, slots).codes[0].int())
    assert torch.equal(torch.stack(codes), expected)


def test_a_prompt_that_is_read_in_parts_between_others_frames_is_read_as_if_alone(model: SpeechModel) -> None:
    """And one who chooses the likeliest code speaks beside one who does not."""
    parts = split_into_chunks(prompt(model, TEXTS[2]), 1, 3)
    assert len(parts) > 3
    greedy, sampled = (Sampling.of(model.config.generation, greedy=wanted) for wanted in (True, False))
    codes = []
    for company in (False, True):
        runner, furthest = new_runner(model), parts[-1].end
        if company:
            other = begin(runner, model, 0, TEXTS[0], 82, sampling=sampled)
        runner.begin(1, greedy, 81, {})
        for number, part in enumerate(parts):
            if company:
                furthest = max(furthest, other + number + 1)
                runner.generate_frames([0], [0] if number else [], other + number, [0])
            runner.prefill([part])
        codes.append(frames(runner, [0, 1] if company else [1], furthest)[-1])
    assert torch.equal(*codes)
