"""The errors of a precision: the same codes, read in fp32 and in others.

In: a checkpoint; without one, it is written with random weights. Out: the distance of logits from those of
fp32, how often the likeliest code is the same, and the noise in the codec's sound. Does not know: speed.

    python -m bench.precision --checkpoint FOLDER --precisions bf16 int8 int4

A text is spoken greedily in fp32, on a CPU. Then all precisions read its codes, whichever codes they would
have sampled themselves (teacher forcing), so that one different code does not count again in every frame
after it.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.ours import encode, load_model
from bench.report import circumstances, facts, table
from bench.server import PRECISIONS
from bench.voice import LANGUAGE, TEXT
from makima_tts.model import CpuPrecision
from makima_tts.model.checkpoint.config import CONTROL_IDS
from makima_tts.model.language_model import FrameGenerator
from makima_tts.model.prompt import split_into_chunks
from makima_tts.model.sampling import FirstCodebook, FrameSampler, SamplerState, Sampling
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.voice_encoding import Arrays, voice_from
from tests.checkpoints import checkpoint_in

MARGIN_ROWS = 64
POSITIONS = 1024


class Teacher:
    """A sampler: returns the given codes [frames * Q], else the likeliest ones."""

    def __init__(self, codebook_size: int, dictated: Tensor | None = None) -> None:
        self._codebook_size = codebook_size
        self._dictated = dictated
        self.logits: list[Tensor] = []
        self.codes: list[int] = []
        self.broken = torch.zeros(1, dtype=torch.bool)

    def begin(self, _first: FirstCodebook, _state: SamplerState, _slots: Tensor) -> FrameSampler:
        return self

    def sample_first(self, logits: Tensor) -> Tensor:
        """[B, V] → the same code for all, int64 [B]. The end of speech is no code."""
        of_codes = logits[0, : self._codebook_size].float()
        code = int(of_codes.argmax() if self._dictated is None else self._dictated[len(self.codes)])
        self.logits.append(of_codes.cpu())
        self.codes.append(code)
        return torch.full((len(logits),), code, device=logits.device)

    def sample(self, logits: Tensor, _codebook: int) -> Tensor:
        return self.sample_first(logits)


def teach(model: SpeechModel, arrays: Arrays, frames: int, codes: Tensor | None = None) -> Teacher:
    """Generate this many frames: the likeliest codes, or the given ones [frames * Q]."""
    voice = voice_from(model, arrays)
    prompt = model.prompts.write(model.tokenizer.encode(TEXT), LANGUAGE, voice.rows)
    positions = len(prompt.rows) + frames + MARGIN_ROWS
    talker = model.config.talker_config
    teacher = Teacher(talker.vocab_size - CONTROL_IDS, codes)
    generator = FrameGenerator(model.talker, model.predictor, model.prompts.pad, teacher.begin)
    state = generator.new_state(1, positions, positions)
    generator.begin_utterance(state, 0, Sampling.of(model.config.generation, greedy=True), 0)
    generator.prefill(state, split_into_chunks(prompt, 0, positions))
    slots = torch.zeros(1, dtype=torch.int64, device=model.device)
    for frame in range(frames):
        if frame:
            generator.step(state, slots, len(prompt.rows) + frame)
        generator.generate(state, slots)
    return teacher


def sound(model: SpeechModel, codes: Tensor) -> Tensor:
    """float32 [samples] of codes [frames, Q]."""
    slots = torch.zeros(1, dtype=torch.int64, device=model.device)
    return model.codec.decode(codes[None].to(model.device), model.codec.new_state(1), slots)[0].float().cpu()


def logit_rows(exact: Teacher, coarse: Teacher, codebooks: int) -> list[dict[str, Any]]:
    """Codebook 0, and all the others."""
    pairs = list(zip(exact.logits, coarse.logits, strict=True))
    first = [pair for number, pair in enumerate(pairs) if number % codebooks == 0]
    others = [pair for number, pair in enumerate(pairs) if number % codebooks]
    return [_row("codebook 0", first), _row(f"codebooks 1-{codebooks - 1}", others)]


def _row(name: str, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    exact, coarse = (torch.stack(side) for side in zip(*pairs, strict=True))  # [n, V] each
    # A constant added to all logits changes no probability.
    exact, coarse = (logits - logits.mean(dim=1, keepdim=True) for logits in (exact, coarse))
    agree = exact.argmax(dim=1) == coarse.argmax(dim=1)
    probabilities, others = exact.softmax(dim=1), coarse.softmax(dim=1)
    return {
        "logits of": name,
        "choices": len(exact),
        "relative RMS error": float((coarse - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()),
        "same first choice": float(agree.float().mean()),
        "total variation": float((probabilities - others).abs().sum(dim=1).mean() / 2),
    }


def signal_to_noise_db(exact: Tensor, coarse: Tensor) -> float:
    return float(10 * torch.log10(exact.pow(2).sum() / (coarse - exact).pow(2).sum()))


@torch.inference_mode()
def compare(
    folder: Path, device: str, frames: int, precisions: Sequence[CpuPrecision]
) -> list[dict[str, Any]]:
    """Two rows of each precision beside fp32 on a CPU: codebook 0, the others. No noise: None."""
    exact = load_model(folder, "cpu", "fp32", positions=POSITIONS)
    codebooks = exact.config.talker_config.num_code_groups
    arrays, _ = encode(exact)
    taught = teach(exact, arrays, frames)
    codes = torch.tensor(taught.codes)
    exact_sound = sound(exact, codes.view(frames, codebooks))
    rows = []
    for precision in precisions:
        coarse = load_model(folder, device, precision, positions=POSITIONS)
        dictated = teach(coarse, arrays, frames, codes)
        ratio_db = signal_to_noise_db(exact_sound, sound(coarse, codes.view(frames, codebooks)))
        rows += [{"precision": precision, **row} for row in logit_rows(taught, dictated, codebooks)]
        rows[-1]["codec SNR, dB"] = rows[-2]["codec SNR, dB"] = ratio_db if isfinite(ratio_db) else None
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=("0.6B", "1.7B"), default="0.6B")
    parser.add_argument("--precisions", choices=PRECISIONS, nargs="+", default=["bf16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--checkpoint", type=Path, help="a folder; else one with random weights is written")
    parser.add_argument("--cache", type=Path, help="where that is kept; else nowhere (2.5 GB and more)")
    parser.add_argument("--json", type=Path, help="a file to write")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="makima-tts-bench-") as folder:
        checkpoint = options.checkpoint or checkpoint_in(options.cache or Path(folder), options.size)
        rows = compare(checkpoint, options.device, options.frames, options.precisions)
    about = circumstances() | {"frames": str(options.frames)}
    print(f"{facts(about)}\n\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
