"""How many streams there is memory for."""

import pytest
import torch

from makima_tts.engines.qwen3.runner import (
    MAX_STREAMS,
    STREAMS_WITHOUT_GPU,
    SlotBuffers,
    bytes_in,
    slots_in,
    streams_that_fit,
)
from makima_tts.errors import RateLimited
from makima_tts.speech import UtteranceRequest
from tests.checkpoints.models import ENDING, small_model
from tests.qwen3.engines import running

GIB = 2**30
# A slot of the published 0.6B in bf16, and what its weights leave of a card.
SLOT_BYTES = 150 * 2**20


def test_a_card_of_8_gb_holds_16_streams_and_a_large_one_the_maximum() -> None:
    assert slots_in(int(5.5 * GIB), SLOT_BYTES) >= 16
    assert slots_in(120 * GIB, SLOT_BYTES) == MAX_STREAMS


def test_a_full_card_still_holds_one_stream() -> None:
    assert slots_in(GIB, SLOT_BYTES) == 1


def test_each_further_slot_takes_the_estimated_memory() -> None:
    model = small_model(ENDING)
    with torch.inference_mode():
        sizes = [bytes_in(SlotBuffers.allocate(model, slots, 64)) for slots in (1, 2, 3)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] == sizes[0] // 2


async def test_without_a_gpu_there_are_eight_slots() -> None:
    assert streams_that_fit(small_model(ENDING), 64) == STREAMS_WITHOUT_GPU
    async with running(ENDING, streams=0) as engine:
        streams = [engine.open(UtteranceRequest("one of them")) for _ in range(STREAMS_WITHOUT_GPU)]
        with pytest.raises(RateLimited):
            engine.open(UtteranceRequest("one more"))
        for stream in streams:
            stream.cancel()
