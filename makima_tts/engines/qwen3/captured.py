"""The launches of a step as graphs: one for every shape, captured before the first utterance.

In: slots, parts of prompts. Out: tensors on the device. Does not know: utterances, what is waited for, CUDA.

What there is to do is filled up to the next larger bucket with rows of a spare slot. All graphs read which
slots they are for from tensors that stay where they are, and write what they come to into such: between two
of them the host does nothing but launch.

S slots and a spare one · B of a bucket · M prompt rows of a bucket · F frames of a call · Q codebooks
· E hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from makima_tts.engines.qwen3.buckets import TURN_FRAMES, bucket_of, bucket_sizes, call_sizes, turns_of
from makima_tts.engines.qwen3.graphs import Capture, Replay
from makima_tts.engines.qwen3.inputs import Pairs
from makima_tts.engines.qwen3.launches import Decoded, SlotBuffers, packed_frames, packed_sound
from makima_tts.model.frames import PrefillChunk
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.transfers import sent

# Prompt rows of one call: those of several newcomers, or of one whose reference is long.
READ_ROWS = (16, 32, 64, 128, 256)
# Where attention must be told how far it may look: one graph for each of these and the batch.
_SHORTEST_LIMIT = 256


class Captured:
    """Engine thread only. Capturing takes seconds; ``progress`` hears of it from 0 to 1.

    ``read_rows``: how many prompt rows a call may have.
    """

    runs_ahead = True

    def __init__(
        self,
        model: SpeechModel,
        buffers: SlotBuffers,
        capture: Capture,
        *,
        read_rows: tuple[int, ...] = READ_ROWS,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> None:
        self._model = model
        self._buffers = buffers
        self._limits = _limits(buffers.frames.cache.positions, grow=model.talker.transformer.looks_to_limit)
        self._batches = bucket_sizes(buffers.spare)
        self._read_rows = read_rows
        self._tensors = _Tensors.allocate(model, buffers, read_rows[-1])
        self._graphs: dict[tuple[object, ...], Replay] = {}
        works = dict(self._works())
        for number, (key, work) in enumerate(works.items(), start=1):
            self._graphs[key] = capture(work)
            progress(number / len(works))

    @property
    def most_rows(self) -> int:
        return self._read_rows[-1]

    def read(self, parts: Sequence[PrefillChunk]) -> None:
        """As many parts as fit into a call, which are read together; the others after them."""
        for some in _calls_of(parts, self.most_rows):
            self._read_together(some)

    def _read_together(self, parts: Sequence[PrefillChunk]) -> None:
        rows, given = torch.cat([part.rows for part in parts]), self._tensors
        size = bucket_of(len(rows), self._read_rows)
        slots = [part.slot for part in parts for _ in part.rows]
        positions = [part.start + row for part in parts for row in range(len(part.rows))]
        given.rows[: len(rows)] = rows
        given.reading.fill(slots, positions, size)
        self._graphs["read", size, self._limit(max(positions) + 1)]()
        ends = torch.tensor([len(part.rows) for part in parts]).cumsum(0) - 1
        last = given.hidden[sent(ends, rows.device)]  # [parts, E]
        self._model.frames.were_read(self._buffers.frames, parts, last)

    def make(self, slots: Sequence[int], stepped: Sequence[int], limit: int, at: Sequence[int]) -> Tensor:
        given = self._tensors
        if stepped:
            size = bucket_of(len(stepped), self._batches)
            given.stepping.fill(stepped, [0] * len(stepped), size)
            self._graphs["step", size, self._limit(limit)]()
        size = bucket_of(len(slots), self._batches)
        given.speaking.fill(slots, at, size)
        self._graphs["make", size]()
        return given.told[: len(slots)]

    def decode(self, slots: Sequence[int], frames: int) -> Iterator[Decoded]:
        first = 0
        for turn in turns_of(frames):
            sizes = call_sizes(turn, self._buffers.spare)
            for start in range(0, len(slots), sizes[-1]):
                some = slots[start : start + sizes[-1]]
                size = bucket_of(len(some), sizes)
                self._tensors.decoding.fill(some, [first] * len(some), size)
                self._graphs["decode", turn, size]()
                yield Decoded(start, first, turn, self._tensors.sound[turn][: len(some)])
            first += turn

    def _works(self) -> Iterator[tuple[tuple[object, ...], Callable[[], object]]]:
        """The largest first: the memory that they compute with is then enough for the others."""
        for turn in reversed(TURN_FRAMES):
            for size in reversed(call_sizes(turn, self._buffers.spare)):
                yield ("decode", turn, size), partial(self._decode, turn, size)
        for size in reversed(self._batches):
            yield ("make", size), partial(self._make, size)
        for limit in reversed(self._limits):
            for size in reversed(self._read_rows):
                yield ("read", size, limit), partial(self._read, size, limit)
            for size in reversed(self._batches):
                yield ("step", size, limit), partial(self._step, size, limit)

    def _read(self, size: int, limit: int) -> None:
        given, state = self._tensors, self._buffers.frames
        slots, positions = given.reading.of(size)
        given.hidden[:size] = self._model.frames.read_rows(state, given.rows[:size], slots, positions, limit)

    def _step(self, size: int, limit: int) -> None:
        slots, _nothing = self._tensors.stepping.of(size)
        self._model.frames.step(self._buffers.frames, slots, limit)

    def _make(self, size: int) -> None:
        slots, at = self._tensors.speaking.of(size)
        frames = self._model.frames.make(self._buffers.frames, slots)
        self._buffers.codes[slots, at] = frames.codes
        self._tensors.told[:size] = packed_frames(frames)

    def _decode(self, turn: int, size: int) -> None:
        slots, first = self._tensors.decoding.of(size)
        places = first[:, None] + torch.arange(turn, device=first.device)  # [B, F]
        codes = self._buffers.codes[slots[:, None], places]  # [B, F, Q]
        samples = self._model.codec.decode(codes, self._buffers.codec, slots)
        self._tensors.sound[turn][:size] = packed_sound(*self._model.finish(samples, turn))

    def _limit(self, needed: int) -> int:
        return bucket_of(needed, self._limits)


@dataclass(frozen=True, slots=True)
class _Tensors:
    """What graphs read from, but for the slots' buffers, and write to.

    ``rows`` and ``hidden``: [M, E], before and after reading. ``told``: int32 [S, Q + 2]. ``sound``: int16
    [B, …] by frames of a call, as ``packed_sound`` has it.
    """

    reading: Pairs
    stepping: Pairs
    speaking: Pairs
    decoding: Pairs
    rows: Tensor
    hidden: Tensor
    told: Tensor
    sound: dict[int, Tensor]

    @classmethod
    def allocate(cls, model: SpeechModel, buffers: SlotBuffers, most_rows: int) -> "_Tensors":
        spare, device, state = buffers.spare, model.device, buffers.frames
        rows = state.hidden.new_zeros(most_rows, state.hidden.shape[1])
        codebooks, samples = buffers.codes.shape[2], model.frame_samples
        widths = {turn: turn * samples + 2 * turn for turn in TURN_FRAMES}
        return cls(
            reading=Pairs(most_rows, spare, device),
            stepping=Pairs(spare, spare, device),
            speaking=Pairs(spare, spare, device),
            decoding=Pairs(spare, spare, device),
            rows=rows,
            hidden=rows.clone(),
            told=torch.zeros(spare, codebooks + 2, dtype=torch.int32, device=device),
            sound={
                turn: torch.zeros(call_sizes(turn, spare)[-1], width, dtype=torch.int16, device=device)
                for turn, width in widths.items()
            },
        )


def _limits(positions: int, *, grow: bool) -> tuple[int, ...]:
    """How far attention looks: to the end, or where that must be told beforehand in steps of two."""
    limits, limit = [positions], _SHORTEST_LIMIT
    while grow and limit < positions:
        limits.append(limit)
        limit *= 2
    return tuple(sorted(limits))


def _calls_of(parts: Sequence[PrefillChunk], most_rows: int) -> Iterator[list[PrefillChunk]]:
    """In order, as many as there is room for in each."""
    some: list[PrefillChunk] = []
    for part in parts:
        if some and sum(len(each.rows) for each in (*some, part)) > most_rows:
            yield some
            some = []
        some.append(part)
    yield some
