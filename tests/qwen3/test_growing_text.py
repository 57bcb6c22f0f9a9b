"""A piece that arrives in parts gives the codes of the whole piece, as soon as there is text for them.

The laws hold for whoever waits for every step and for who runs ahead with recorded graphs, and whether codes
are drawn or the likeliest.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio

from makima_tts.engines.qwen3 import Qwen3Engine, SynthesisOptions
from makima_tts.errors import Cancelled, InvalidText
from makima_tts.speech import SpeechStream, UtteranceRequest, VoicePrompt
from tests.checkpoints.models import ENDING, small_model
from tests.qwen3.engines import begin, chunks_of, running
from tests.qwen3.recording import everything_captured
from tests.qwen3.test_chunks import reference
from tests.words import words_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PIECE = "The keeper climbs the stairs, and the lamps are lit."
# More tokens than are waited for.
KNOWN, REST = PIECE[:37], PIECE[37:]
PIECES = (PIECE, "Who is there?")
SPLITS = [["", *words_of(PIECE), ""], [PIECE]]


@dataclass
class Listened:
    """An engine, the frames that it generated, by utterance, and the ``known`` codes of whole pieces."""

    engine: Qwen3Engine
    codes: defaultdict[str, list[npt.NDArray[np.int64]]]
    known: dict[tuple[tuple[str, ...], VoicePrompt | None], npt.NDArray[np.int64]] = field(
        default_factory=dict
    )

    async def said(self, stream: SpeechStream, name: str = "utterance") -> npt.NDArray[np.int64]:
        await chunks_of(stream)
        return np.stack(self.codes.pop(name))

    async def whole(self, *pieces: str, voice: VoicePrompt | None = None) -> npt.NDArray[np.int64]:
        if (pieces, voice) not in self.known:
            self.known[pieces, voice] = await self.said(begin(self.engine, *pieces, voice=voice))
        return self.known[pieces, voice]

    def begin(self, *parts: str, voice: VoicePrompt | None = None, name: str = "utterance") -> SpeechStream:
        """A piece that is still open."""
        stream = self.engine.open(UtteranceRequest(name, seed=1, voice=voice))
        for part in parts:
            stream.feed(part, ends_piece=False)
        return stream


@asynccontextmanager
async def listening(**given: Any) -> AsyncIterator[Listened]:
    codes: defaultdict[str, list[npt.NDArray[np.int64]]] = defaultdict(list)
    async with running(
        ENDING,
        streams=2,
        watch=lambda name, frame: codes[name].append(frame),
        options=SynthesisOptions(**{"positions": 250, **given}),
    ) as engine:
        yield Listened(engine, codes)


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[nullcontext, everything_captured], ids=["", "running ahead"]
)
async def listened(request: pytest.FixtureRequest) -> AsyncIterator[Listened]:
    with request.param():
        async with listening() as listened:
            yield listened


def rows_of(text: str) -> int:
    """Frames for which there is text while the text may still grow."""
    return len(small_model(ENDING).tokenizer.encode(text)) - 1


async def spoken_until(stream: SpeechStream, listened: Listened, frames: int) -> None:
    while len(listened.codes["utterance"]) < frames:
        await anext(stream)


@pytest.mark.parametrize("parts", SPLITS, ids=["words", "at once"])
async def test_a_piece_in_parts_has_the_codes_of_the_whole(listened: Listened, parts: Sequence[str]) -> None:
    stream = listened.begin(*parts)
    stream.feed("")
    stream.feed(PIECES[1])
    stream.finish()
    assert np.array_equal(await listened.said(stream), await listened.whole(*PIECES))


async def test_the_likeliest_codes_are_the_same_too() -> None:
    async with listening(greedy=True) as listened:
        stream = listened.begin(*SPLITS[0])
        stream.finish()
        assert np.array_equal(await listened.said(stream), await listened.whole(PIECE))


async def test_a_stalled_writer_pauses_the_stream_and_changes_no_code(listened: Listened) -> None:
    """While another utterance runs, no frame is generated beyond the text."""
    whole = await listened.whole(PIECE)
    stream = listened.begin(KNOWN)
    frames = rows_of(KNOWN)
    await spoken_until(stream, listened, frames)
    await listened.said(begin(listened.engine, *PIECES, name="neighbour"), "neighbour")
    assert len(listened.codes["utterance"]) == frames
    stream.feed(REST)
    stream.finish()
    assert np.array_equal(await listened.said(stream), whole)


async def test_a_cancel_while_it_waits_for_text_frees_the_slot(listened: Listened) -> None:
    for _ in range(4):
        stream = listened.begin(KNOWN)
        await anext(stream)
        stream.cancel()
        with pytest.raises(Cancelled):
            await anext(stream)
    listened.codes.clear()
    assert listened.engine.health().active == 0
    assert len(await listened.said(begin(listened.engine, *PIECES)))


async def test_a_voice_by_embedding_speaks_partial_text_and_one_with_a_transcript_waits(
    listened: Listened,
) -> None:
    cloned = await listened.engine.encode_voice(reference())
    embedding = VoicePrompt(cloned.fingerprint, {"x_vector": cloned.tensors["x_vector"]})
    for voice, at_once in ((embedding, rows_of(KNOWN)), (cloned, 0)):
        whole = await listened.whole(PIECE, voice=voice)
        stream = listened.begin(KNOWN, voice=voice)
        await spoken_until(stream, listened, at_once)
        await listened.said(begin(listened.engine, PIECES[1], name="neighbour"), "neighbour")
        assert len(listened.codes["utterance"]) == at_once
        stream.feed(REST)
        stream.finish()
        assert np.array_equal(await listened.said(stream), whole)


async def test_a_piece_with_nothing_to_speak_is_refused_once_it_is_complete(listened: Listened) -> None:
    stream = listened.begin(" ", "")
    stream.finish()
    with pytest.raises(InvalidText, match="nothing to speak"):
        await chunks_of(stream)


async def test_a_partial_text_that_exceeds_its_room_is_refused(listened: Listened) -> None:
    stream = listened.begin(KNOWN)
    await anext(stream)
    stream.feed(" x" * 300, ends_piece=False)
    with pytest.raises(InvalidText, match="too long"):
        await chunks_of(stream)


async def test_a_piece_whose_sound_ends_first_is_finished_when_its_text_is() -> None:
    """Here for lack of positions. Text that arrives meanwhile belongs to this piece and not to the next."""
    text = f"{PIECE} Now."
    async with listening(positions=rows_of(PIECE) + 6) as listened:
        room, whole = len(await listened.whole(text)), await listened.whole(text, PIECES[1])
        assert room < rows_of(PIECE)
        stream = listened.begin(PIECE)
        await spoken_until(stream, listened, room)
        stream.feed(" Now.")
        stream.feed(PIECES[1])
        stream.finish()
        assert [chunk.piece_index async for chunk in stream if chunk.ends_piece] == [0, 1]
        assert stream.finish_reason == "length"
        assert np.array_equal(np.stack(listened.codes["utterance"]), whole)
