"""Playback through a simulated sound card, and interruptions."""

import asyncio
import sys
from pathlib import Path

import pytest

from makima_tts.client import Heard, Player, PlayerUnavailable, SpeechClient, UtteranceCancelled
from makima_tts.protocol import AudioFormat, Cancel, Interrupted, Sentence, Speak, Start
from tests.client.fake_service import FakeService, complete, failed, speaking
from tests.client.hand_turned_card import HandTurnedCard

FORMAT = AudioFormat(24000, "pcm16")
# 10 ms
STEP = 480


async def until_waiting(player: Player, size_bytes: int) -> None:
    """Waits until the player has this much."""
    async with asyncio.timeout(5):
        while len(player._buffered) < size_bytes:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_the_card_gets_the_chunks_in_order_and_silence_between_them() -> None:
    card = HandTurnedCard()
    with Player(FORMAT, card.open) as player:
        player.begin()
        await player.write(b"\x01\x02" * STEP)
        assert card.turn(STEP) + card.turn(3 * STEP) == b"\x01\x02" * STEP + bytes(2 * STEP)
        await player.write(b"\x03\x04" * STEP)
        assert card.turn(2 * STEP) == b"\x03\x04" * STEP
        await player.drain()
        assert player.played_ms == 40
    assert card.closed


async def test_audio_in_the_cards_buffer_was_not_heard_yet() -> None:
    card = HandTurnedCard(latency_s=0.015)
    with Player(FORMAT, card.open) as player:
        player.begin()
        await player.write(bytes(3 * STEP))
        assert player.played_ms == 0
        card.turn(STEP)
        assert player.played_ms == 0
        card.turn(STEP)
        assert player.played_ms == 5
        card.turn(STEP)
        card.turn(3 * STEP)
        assert player.played_ms == 30


async def test_a_writer_waits_for_the_card() -> None:
    card = HandTurnedCard()
    with Player(FORMAT, card.open) as player:
        player.begin()
        writing = asyncio.create_task(player.write(bytes(48000)))
        await until_waiting(player, 48000)
        assert not writing.done()
        card.turn(24000)
        await writing


async def test_a_barge_in_silences_at_once_and_returns_the_heard_text() -> None:
    card = HandTurnedCard()
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        await service.heard(Start)
        with Player(FORMAT, card.open) as player:
            speech = client.speak("Good day to you.")
            await service.heard(Speak)
            playing = asyncio.create_task(speech.play(player))
            await service.say(speaking("u1"), b"\x01\x01" * STEP)
            await until_waiting(player, 2 * STEP)
            card.turn(STEP)
            interrupting = asyncio.create_task(speech.interrupt())
            assert (await service.heard(Cancel)).played_ms == 10
            assert card.turn(STEP) == bytes(STEP)
            told = {"text_spoken": "Good", "text_remaining": " day to you."}
            await service.say(failed("CANCELLED", "u1").model_copy(update=told))
            assert await interrupting == Heard("Good", " day to you.")
            with pytest.raises(UtteranceCancelled):
                await playing


async def test_a_barge_in_after_the_last_byte_came_is_a_barge_in_all_the_same() -> None:
    card = HandTurnedCard()
    said = Sentence(utterance_id="u1", index=0, text="Good day to you.", start_ms=0, end_ms=160)
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        with Player(FORMAT, card.open) as player:
            speech = client.speak("Good day to you.")
            playing = asyncio.create_task(speech.play(player))
            await service.say(speaking("u1"), bytes(16 * STEP), said, complete("u1"))
            await until_waiting(player, 16 * STEP)
            for _ in range(9):
                card.turn(STEP)
            await client.interrupt()
            with pytest.raises(UtteranceCancelled) as cancelled:
                await playing
        assert cancelled.value.played_ms == 90
        assert await speech.interrupt() == Heard("Good day", " to you.")


async def test_an_interrupt_from_another_session_silences_finished_utterances() -> None:
    card = HandTurnedCard()
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        with Player(FORMAT, card.open) as player:
            speech = client.speak("Good day to you.")
            playing = asyncio.create_task(speech.play(player))
            await service.say(speaking("u1"), bytes(16 * STEP), complete("u1"))
            await until_waiting(player, 16 * STEP)
            card.turn(STEP)
            await service.say(Interrupted())
            with pytest.raises(UtteranceCancelled):
                await playing


async def test_an_utterance_played_to_its_end_was_heard() -> None:
    card = HandTurnedCard()
    said = Sentence(utterance_id="u1", index=0, text="Good day.", start_ms=0, end_ms=20)
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        with Player(FORMAT, card.open) as player:
            speech = client.speak("Good day.")
            playing = asyncio.create_task(speech.play(player))
            await service.say(speaking("u1"), bytes(2 * STEP), said, complete("u1"))
            await until_waiting(player, 2 * STEP)
            card.turn(2 * STEP)
            await playing
        assert speech.heard() == Heard("Good day.", "")


@pytest.mark.parametrize(
    ("stand_in", "words"),
    [
        ("raise ImportError", "needs the package sounddevice"),
        ("raise OSError", "needs the library PortAudio"),
    ],
)
async def test_a_missing_playback_dependency_is_reported(
    stand_in: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sounddevice.py").write_text(stand_in)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(PlayerUnavailable, match=words), Player(FORMAT):
        pytest.fail("it plays")


async def test_what_a_telephone_takes_no_sound_card_plays() -> None:
    with pytest.raises(PlayerUnavailable, match="pcm16 or pcm32f"), Player(AudioFormat(8000, "mulaw")):
        pytest.fail("it plays")
