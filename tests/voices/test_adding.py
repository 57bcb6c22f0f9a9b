"""Voices that are added and deleted, also while they speak."""

import asyncio
import threading
from io import BytesIO

import numpy as np
import pytest

from makima_tts.errors import Conflict, InvalidClip, InvalidMessage, TtsError, VoiceNotFound
from makima_tts.speech import UtteranceRequest
from makima_tts.voices import NARRATOR, VoiceManager, VoiceUpload
from makima_tts.voices.library import RESCAN_S
from tests.voices.clips import TRANSCRIPT, good_clip, silence, sound_file, speech
from tests.voices.conftest import Place, WatchedEngine, make_voice, running, tone_hz, upload


async def test_an_added_voice_is_encoded_before_it_is_asked_for(
    manager: VoiceManager, engine: WatchedEngine
) -> None:
    listing, report = await manager.add(upload("Anna B."))
    assert (listing.id, listing.name, listing.available) == ("anna-b", "Anna B.", True)
    assert (report.duration_ms, report.warnings) == (6000, ())
    assert (await manager.get("anna-b")).id == "anna-b"
    assert engine.encodes == 1


async def test_a_voice_may_be_added_while_the_engine_loads(place: Place) -> None:
    engine = WatchedEngine()
    listing, _ = await place.manager(engine).add(upload())
    assert (listing.available, engine.encodes) == (True, 0)


async def test_the_stored_voice_is_the_one_that_was_sent(
    place: Place, manager: VoiceManager, engine: WatchedEngine
) -> None:
    sent = upload("Anna")
    await manager.add(
        VoiceUpload(
            sent.audio,
            "Anna",
            TRANSCRIPT,
            language="de",
            description="Warm.",
            mode="icl",
            consent="She agreed.",
        )
    )
    folder = place.library().find("anna")
    assert folder is not None
    assert folder.manifest is not None
    assert (folder.transcript, folder.manifest.language) == (TRANSCRIPT, "German")
    assert (folder.manifest.description, folder.manifest.consent) == ("Warm.", "She agreed.")
    assert (folder.manifest.sample_rate, folder.manifest.format) == (24_000, "wav")
    again = await manager.check("anna")
    assert (again.duration_ms, again.mended) == (6000, ())


async def test_a_clip_for_makima_keeps_her_description(manager: VoiceManager) -> None:
    listing, _ = await manager.add(
        VoiceUpload(BytesIO(good_clip()), "makima", TRANSCRIPT, language="English")
    )
    assert (listing.id, listing.available) == ("makima", True)
    assert listing.description == "Quiet and even."
    assert (await manager.resolve(None)).id == "makima"
    with pytest.raises(Conflict):
        await manager.add(upload("Makima"))


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"name": ""}, "name: must hold a letter"),
        ({"name": "\u200b \n"}, "name: must hold a letter"),
        ({"name": "a" * 65}, "name: "),
        ({"transcript": None}, "transcript: is needed in mode icl"),
        ({"transcript": " \n"}, "transcript: is needed in mode icl"),
        ({"transcript": "a" * 2001}, "transcript: "),
        ({"language": "Klingon"}, "language: one of Chinese"),
        ({"mode": "magic"}, "mode: "),
        ({"description": "a" * 501}, "description: "),
        ({"consent": "a" * 501}, "consent: "),
    ],
)
async def test_a_field_that_is_wrong_is_named(
    place: Place, manager: VoiceManager, sent: dict[str, str | None], words: str
) -> None:
    fields: dict[str, str | None] = {"name": "Anna", "transcript": TRANSCRIPT, **sent}
    name = fields.pop("name")
    with pytest.raises(InvalidMessage) as refusal:
        await manager.add(VoiceUpload(BytesIO(good_clip()), str(name), **fields))
    assert words in refusal.value.message
    assert not place.voices_dir.exists()


async def test_a_voice_by_sound_alone_needs_no_transcript(
    manager: VoiceManager, engine: WatchedEngine
) -> None:
    listing, _ = await manager.add(VoiceUpload(BytesIO(good_clip()), "Anna", mode="xvector"))
    assert listing.available
    assert engine.encodes == 1


@pytest.mark.parametrize(("transcript", "word"), [("Hi.", "short"), ("word " * 60, "long")])
async def test_a_transcript_that_cannot_fit_the_clip_is_a_warning(
    manager: VoiceManager, transcript: str, word: str
) -> None:
    _, report = await manager.add(upload(transcript=transcript))
    assert [word in warning for warning in report.warnings] == [True]
    assert (await manager.check("anna")).warnings == report.warnings


async def test_a_name_gets_an_id_that_no_other_name_has(manager: VoiceManager) -> None:
    names = ["Łukasz", "Lukász", "真紀真", "マキマ", "Зоя", "Narrátor"]
    listings = [(await manager.add(upload(name)))[0] for name in names]
    assert [listing.name for listing in listings] == names
    ids = ["lukasz", "lukasz-2", "zhenjizhen", "makima-2", "zoya", "narrator-2"]
    assert [listing.id for listing in listings] == ids
    same = ["łukasz", " Łukasz! ", "Lukasz", "lukasz-2", "ＺＯＹＡ", "マキマ", "Narrator", "зоя"]  # noqa: RUF001
    for name in same:
        with pytest.raises(Conflict):
            await manager.add(upload(name))


async def test_a_long_clip_needs_no_cutting_without_a_transcript(manager: VoiceManager) -> None:
    long = sound_file(speech(70.0, 8000), 8000)
    _, report = await manager.add(VoiceUpload(BytesIO(long), "Anna", mode="xvector"))
    assert "cut at a pause before 60 s" in report.mended
    assert (await manager.check("anna")).duration_ms == report.used_ms
    with pytest.raises(InvalidClip, match="longer than 60 s"):
        await manager.add(upload("Berta", audio=long))


async def test_a_refused_clip_leaves_nothing(place: Place, manager: VoiceManager) -> None:
    with pytest.raises(InvalidClip):
        await manager.add(upload(audio=sound_file(silence(4.0))))
    assert not place.voices_dir.exists()


async def test_the_loop_goes_on_while_a_clip_is_read(manager: VoiceManager) -> None:
    class SlowFile(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            loop.call_soon_threadsafe(being_read.set)
            assert go_on.wait(10)
            return super().read(size)

    loop, being_read, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    adding = asyncio.create_task(manager.add(VoiceUpload(SlowFile(good_clip()), "Anna", TRANSCRIPT)))
    await being_read.wait()
    go_on.set()
    assert (await adding)[0].available


async def test_a_deleted_voice_finishes_what_it_is_speaking(
    place: Place, manager: VoiceManager, engine: WatchedEngine
) -> None:
    await manager.add(upload())
    voice = await manager.get("anna")
    stream = engine.open(UtteranceRequest("u", voice=voice.prompt))
    stream.feed("Half of it, ")
    heard = [await anext(stream)]
    await manager.delete("anna")
    stream.feed("and the rest.")
    stream.finish()
    heard += [chunk async for chunk in stream]
    assert stream.finish_reason == "stop"
    assert sum(chunk.pcm.size for chunk in heard) > 24_000
    assert np.abs(heard[-1].pcm).max() > 0.1
    with pytest.raises(VoiceNotFound):
        await manager.get("anna")


async def test_deleting_a_voice_deletes_its_prompts(place: Place, manager: VoiceManager) -> None:
    await manager.add(upload())
    assert len(list((place.cache_dir / "voices").iterdir())) == 1
    await manager.delete("anna")
    assert list((place.cache_dir / "voices").iterdir()) == []
    assert place.metric("voice_cache_bytes") == 0


async def test_a_voice_added_again_after_deletion_is_the_new_one(manager: VoiceManager) -> None:
    await manager.add(upload())
    old = await manager.get("anna")
    await manager.delete("anna")
    await manager.add(upload(audio=good_clip(pitch_hz=220.0)))
    assert tone_hz(await manager.get("anna")) != tone_hz(old)


async def test_nothing_is_kept_of_a_voice_that_is_deleted_while_it_is_encoded(place: Place) -> None:
    gate = asyncio.Event()
    engine = await running(WatchedEngine(encode_gate=gate))
    manager = place.manager(engine)
    make_voice(place.voices_dir, "anna")
    asking = asyncio.create_task(manager.get("anna"))
    await engine.encoding.wait()
    await manager.delete("anna")
    gate.set()
    with pytest.raises(VoiceNotFound, match="deleted or changed while it was encoded"):
        await asking
    assert list((place.cache_dir / "voices").iterdir()) == []
    assert place.metric("voice_cache_bytes") == 0


async def test_an_upload_that_is_deleted_while_it_is_encoded_is_not_called_available(place: Place) -> None:
    gate = asyncio.Event()
    engine = await running(WatchedEngine(encode_gate=gate))
    manager = place.manager(engine)
    adding = asyncio.create_task(manager.add(upload()))
    await engine.encoding.wait()
    await manager.delete("anna")
    gate.set()
    listing, _ = await adding
    assert (listing.available, listing.reason) == (False, "It was deleted right after it was added.")
    assert list((place.cache_dir / "voices").iterdir()) == []


async def test_a_voice_replaced_during_encoding_is_the_new_one(place: Place) -> None:
    gate = asyncio.Event()
    engine = await running(WatchedEngine(encode_gate=gate))
    manager = place.manager(engine)
    make_voice(place.voices_dir, "anna")
    asking = asyncio.create_task(manager.get("anna"))
    await engine.encoding.wait()
    await manager.delete("anna")
    make_voice(place.voices_dir, "anna", clip=good_clip(pitch_hz=220.0))
    place.clock.now_s += RESCAN_S
    gate.set()
    with pytest.raises(VoiceNotFound):
        await asking
    assert (await manager.get("anna")).id == "anna"
    assert len(list((place.cache_dir / "voices").iterdir())) == 1


async def test_create_speak_and_delete_at_once_end_in_order(place: Place, manager: VoiceManager) -> None:
    clip = good_clip()

    async def outcome(action: str, name: str) -> str:
        try:
            match action:
                case "add":
                    await manager.add(upload(name, audio=clip))
                case "get":
                    assert (await manager.get(name)).prompt is not None
                case "delete":
                    await manager.delete(name)
        except TtsError as error:
            return f"{action} {error.code}"
        return f"{action} done"

    actions = [(action, name) for name in ("anna", "berta") for action in ("add", "get", "delete") * 4]
    outcomes = await asyncio.gather(*(outcome(action, name) for action, name in actions))
    assert set(outcomes) <= {
        "add done",
        "add CONFLICT",
        "get done",
        "get VOICE_NOT_FOUND",
        "delete done",
        "delete VOICE_NOT_FOUND",
    }
    left = outcomes.count("add done") - outcomes.count("delete done")
    assert len([voice for voice in manager.list() if voice.id in ("anna", "berta")]) == left
    assert place.leftovers() == []


async def test_a_clip_of_the_maximum_length_is_accepted(manager: VoiceManager) -> None:
    _, report = await manager.add(
        upload(audio=sound_file(speech(60.0, 8000), 8000), transcript="word " * 150)
    )
    assert report.duration_ms == 60_000


async def test_a_manager_that_closes_ends_what_is_being_encoded(place: Place) -> None:
    engine = await running(WatchedEngine(encode_gate=asyncio.Event()))
    manager = place.manager(engine)
    asking = asyncio.create_task(manager.get(NARRATOR))
    await engine.encoding.wait()
    await manager.close()
    with pytest.raises(TtsError, match="shutting down"):
        await asking
