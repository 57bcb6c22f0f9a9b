"""Steps as CUDA graphs: one graph for every shape, captured before the first utterance.

In: slots, chunks of prompts. Out: tensors on the device. Does not know: utterances, when results are waited
for.

A batch is filled up to the next larger bucket with rows of a spare slot. All graphs read from tensors at
fixed addresses which slots they are for, and write their results to such: between two of them the host does
nothing but launch. A graph repeats launches with the addresses that they had. So captured work must not look
at a value, and what it decides by Python numbers stays decided.

S slots and a spare one · B of a bucket · M prompt rows of a bucket · F frames of a call · Q codebooks
· E hidden size.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from makima_tts.engines.qwen3.runner import DecodeCall, SlotBuffers, StepExecutor, packed_frames, packed_sound
from makima_tts.model.devices import copy_to_device, to_device
from makima_tts.model.language_model import PrefillChunk
from makima_tts.model.speech_model import SpeechModel

# Prompt rows of one call: those of several newcomers, or of one whose reference is long.
PREFILL_ROWS = (16, 32, 64, 128, 256)
# Frames of one call of the codec, all streams together: larger calls are no faster per frame, and their
# memory grows with them.
CALL_FRAMES = 256
# Frames of one stream in a call.
STREAM_FRAMES = (1, 2, 4, 8)
# Where attention needs a limit of positions: one graph for each limit and batch size.
_SHORTEST_LIMIT = 256
# Before a capture: the first calls compile kernels and allocate workspaces.
_WARM_UPS = 2

Replay = Callable[[], object]
# Captures work that reads and writes tensors at fixed addresses.
Capture = Callable[[Callable[[], object]], Replay]


class CudaCapture:
    """A Capture. All graphs share one memory pool: they are replayed one after the other, on one stream.

    A graph's own memory is overwritten by the next one: results belong into tensors that were there before.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(device)  # the graphs' tensors were allocated on another stream
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, work: Callable[[], object]) -> Replay:
        """Without ``torch.cuda.graph``, which may collect garbage before each of a hundred captures."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                work()
            self._stream.synchronize()
            # Other threads do not use this device, but may use another.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        return graph.replay


class CudaGraphExecutor(StepExecutor):
    """Engine thread only. Capturing takes seconds, which ``progress`` reports from 0 to 1.

    ``prefill_rows``: how many prompt rows a call may have.
    """

    runs_ahead = True

    def __init__(
        self,
        model: SpeechModel,
        buffers: SlotBuffers,
        capture: Capture,
        *,
        prefill_rows: tuple[int, ...] = PREFILL_ROWS,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> None:
        super().__init__(model, buffers, prefill_rows[-1])
        self._limits = _limits(buffers.frames.cache.positions, grow=model.talker.transformer.looks_to_limit)
        self._batches = bucket_sizes(buffers.spare)
        self._prefill_rows = prefill_rows
        self._allocate()
        self._graphs: dict[tuple[object, ...], Replay] = {}
        works = dict(self._works())
        for number, (key, work) in enumerate(works.items(), start=1):
            self._graphs[key] = capture(work)
            progress(number / len(works))

    def _allocate(self) -> None:
        """What graphs read from and write to, besides the slots' buffers."""
        spare, device, hidden = self._buffers.spare, self._model.device, self._buffers.frames.hidden
        codebooks, samples = self._buffers.codes.shape[2], self._model.frame_samples
        self._prefilled = SlotIndex(self.most_rows, spare, device)
        self._stepped = SlotIndex(spare, spare, device)
        self._generated = SlotIndex(spare, spare, device)
        self._decoded = SlotIndex(spare, spare, device)
        self._rows = hidden.new_zeros(self.most_rows, hidden.shape[1])  # [M, E], before the prefill
        self._hidden = self._rows.clone()  # [M, E], after it
        self._frames = torch.zeros(spare, codebooks + 2, dtype=torch.int32, device=device)
        # By frames of a call: as ``packed_sound`` has it, [B, F * (samples + 2)].
        self._sound = {
            frames: torch.zeros(
                call_sizes(frames, spare)[-1], frames * (samples + 2), dtype=torch.int16, device=device
            )
            for frames in STREAM_FRAMES
        }

    def prefill(self, chunks: Sequence[PrefillChunk]) -> None:
        """As many chunks as fit into a call are prefilled together; the others after them."""
        for some in _calls_of(chunks, self.most_rows):
            self._prefill_together(some)

    def _prefill_together(self, chunks: Sequence[PrefillChunk]) -> None:
        rows = torch.cat([chunk.rows for chunk in chunks])
        size = bucket_of(len(rows), self._prefill_rows)
        slots = [chunk.slot for chunk in chunks for _ in chunk.rows]
        positions = [chunk.start + row for chunk in chunks for row in range(len(chunk.rows))]
        self._rows[: len(rows)] = rows
        self._prefilled.fill(slots, positions, size)
        self._graphs["prefill", size, bucket_of(max(positions) + 1, self._limits)]()
        ends = torch.tensor([len(chunk.rows) for chunk in chunks]).cumsum(0) - 1
        last = self._hidden[to_device(ends, rows.device)]  # [chunks, E]
        self._model.frames.finish_prefill(self._buffers.frames, chunks, last)

    def generate_frames(
        self, slots: Sequence[int], stepped: Sequence[int], limit: int, at: Sequence[int]
    ) -> Tensor:
        if stepped:
            size = bucket_of(len(stepped), self._batches)
            self._stepped.fill(stepped, [0] * len(stepped), size)
            self._graphs["step", size, bucket_of(limit, self._limits)]()
        size = bucket_of(len(slots), self._batches)
        self._generated.fill(slots, at, size)
        self._graphs["generate", size]()
        return self._frames[: len(slots)]

    def decode(self, slots: Sequence[int], frames: int) -> Iterator[DecodeCall]:
        first = 0
        for call_frames in split_frames(frames):
            sizes = call_sizes(call_frames, self._buffers.spare)
            for start in range(0, len(slots), sizes[-1]):
                some = slots[start : start + sizes[-1]]
                size = bucket_of(len(some), sizes)
                self._decoded.fill(some, [first] * len(some), size)
                self._graphs["decode", call_frames, size]()
                yield DecodeCall(start, first, call_frames, self._sound[call_frames][: len(some)])
            first += call_frames

    def _works(self) -> Iterator[tuple[tuple[object, ...], Callable[[], object]]]:
        """The largest first: its memory is then enough for the others."""
        for frames in reversed(STREAM_FRAMES):
            for size in reversed(call_sizes(frames, self._buffers.spare)):
                yield ("decode", frames, size), partial(self._run_decode, frames, size)
        for size in reversed(self._batches):
            yield ("generate", size), partial(self._run_generate, size)
        for limit in reversed(self._limits):
            for size in reversed(self._prefill_rows):
                yield ("prefill", size, limit), partial(self._run_prefill, size, limit)
            for size in reversed(self._batches):
                yield ("step", size, limit), partial(self._run_step, size, limit)

    def _run_prefill(self, size: int, limit: int) -> None:
        slots, positions = self._prefilled.of(size)
        self._hidden[:size] = self._model.frames.prefill_rows(
            self._buffers.frames, self._rows[:size], slots, positions, limit
        )

    def _run_step(self, size: int, limit: int) -> None:
        slots, _zeros = self._stepped.of(size)
        self._model.frames.step(self._buffers.frames, slots, limit)

    def _run_generate(self, size: int) -> None:
        slots, at = self._generated.of(size)
        frames = self._model.frames.generate(self._buffers.frames, slots)
        self._buffers.codes[slots, at] = frames.codes
        self._frames[:size] = packed_frames(frames)

    def _run_decode(self, frames: int, size: int) -> None:
        slots, first = self._decoded.of(size)
        indices = first[:, None] + torch.arange(frames, device=first.device)  # [B, F]
        codes = self._buffers.codes[slots[:, None], indices]  # [B, F, Q]
        samples = self._model.codec.decode(codes, self._buffers.codec, slots)
        self._sound[frames][:size] = packed_sound(*self._model.finish(samples, frames))


class SlotIndex:
    """Slots, and a number for each: int64 [B] both, at fixed addresses. ``spare`` fills up.

    Both lie one after the other, so that one copy transfers them.
    """

    def __init__(self, most: int, spare: int, device: torch.device) -> None:
        self._spare = spare
        numbers = torch.cat((torch.full((most,), spare), torch.zeros(most, dtype=torch.int64)))
        self._numbers = numbers.to(device)

    def fill(self, slots: Sequence[int], numbers: Sequence[int], size: int) -> None:
        missing = size - len(slots)
        row = [*slots, *[self._spare] * missing, *numbers, *[0] * missing]
        copy_to_device(self._numbers[: 2 * size], torch.tensor(row))

    def of(self, size: int) -> tuple[Tensor, Tensor]:
        """Views: they show what was filled in last, for this size."""
        return self._numbers[:size], self._numbers[size : 2 * size]


def bucket_sizes(most: int) -> tuple[int, ...]:
    """Powers of two, from 16 on with another between two of them, up to ``most``: at worst a third of a batch
    is filled up."""
    sizes, size = [], 1
    while size < most:
        sizes.append(size)
        between = size + size // 2
        if size >= 16 and between < most:
            sizes.append(between)
        size *= 2
    return (*sizes, most)


def bucket_of(count: int, sizes: tuple[int, ...]) -> int:
    """The smallest that holds ``count``. Raises ValueError beyond the largest."""
    index = bisect_left(sizes, count)
    if index == len(sizes):
        raise ValueError(f"{count} is more than the largest bucket, {sizes[-1]}")
    return sizes[index]


def split_frames(frames: int) -> list[int]:
    """Frames of a stream, in calls of 8, 4, 2 and 1: 12 is 8 and 4."""
    calls = [STREAM_FRAMES[-1]] * (frames // STREAM_FRAMES[-1])
    return calls + [size for size in reversed(STREAM_FRAMES[:-1]) if frames & size]


def call_sizes(frames: int, streams: int) -> tuple[int, ...]:
    """Of how many streams one call decodes ``frames`` frames."""
    return bucket_sizes(min(streams, max(1, CALL_FRAMES // frames)))


def _limits(positions: int, *, grow: bool) -> tuple[int, ...]:
    """Positions that attention looks at: all, or powers of two where it needs a limit."""
    limits, limit = [positions], _SHORTEST_LIMIT
    while grow and limit < positions:
        limits.append(limit)
        limit *= 2
    return tuple(sorted(limits))


def _calls_of(chunks: Sequence[PrefillChunk], most_rows: int) -> Iterator[list[PrefillChunk]]:
    """In order, as many as fit into each call."""
    some: list[PrefillChunk] = []
    for chunk in chunks:
        if some and sum(len(each.rows) for each in (*some, chunk)) > most_rows:
            yield some
            some = []
        some.append(chunk)
    yield some
