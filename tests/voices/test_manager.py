"""From a requested voice id to a prompt."""

import asyncio

import pytest
from structlog.testing import capture_logs

from makima_tts.errors import GpuOutOfMemory, SynthesisError, TtsUnavailable, VoiceNotFound
from makima_tts.voices import NARRATOR, VoiceManager
from tests.voices.clips import good_clip, silence, sound_file
from tests.voices.conftest import Place, WatchedEngine, make_voice, running, tone_hz, upload

# --- which voice -----------------------------------------------------------------------------------------


async def test_the_requested_voice_resolves_without_a_warning(place: Place, manager: VoiceManager) -> None:
    make_voice(place.voices_dir, "anna", language="de")
    voice = await manager.resolve("anna")
    assert (voice.id, voice.warning) == ("anna", None)
    assert manager.describe("anna").language == "German"


@pytest.mark.parametrize("wanted", ["nobody", "makima", "../narrator", "", "a\nb"])
async def test_the_next_candidate_speaks_and_a_warning_says_why(manager: VoiceManager, wanted: str) -> None:
    voice = await manager.resolve(wanted)
    assert voice.id == NARRATOR
    assert voice.warning is not None
    assert voice.warning.endswith("The voice narrator speaks instead.")


async def test_the_default_voice_comes_before_the_narrator(place: Place, engine: WatchedEngine) -> None:
    make_voice(place.voices_dir, "anna")
    manager = place.manager(engine, default_voice="anna")
    assert (await manager.resolve("nobody")).id == "anna"
    assert await manager.resolve(None) == await manager.get("anna")


async def test_without_a_requested_voice_there_is_no_warning(manager: VoiceManager) -> None:
    assert (await manager.resolve(None)).warning is None


async def test_a_malformed_id_is_not_repeated_in_the_message(manager: VoiceManager) -> None:
    with pytest.raises(VoiceNotFound) as refusal:
        await manager.get("<script>")
    assert "script" not in refusal.value.message


async def test_exactly_one_voice_or_an_error_that_says_what_to_do(manager: VoiceManager) -> None:
    with pytest.raises(VoiceNotFound, match="GET /api/v1/voices"):
        await manager.get("nobody")
    with pytest.raises(VoiceNotFound, match=r"put reference\.wav"):
        await manager.get("makima")


async def test_no_usable_voice_at_all_is_an_error(place: Place, engine: WatchedEngine) -> None:
    (place.shipped_dir / "narrator" / "reference.wav").unlink()
    manager = place.manager(engine)
    with pytest.raises(VoiceNotFound, match="No voice is usable"):
        await manager.resolve(None)
    with pytest.raises(VoiceNotFound):
        manager.expect()


async def test_a_start_without_the_default_voice_succeeds_and_says_so(manager: VoiceManager) -> None:
    assert manager.expect().id == NARRATOR
    with capture_logs() as logs:
        assert (await manager.prepare_default()).id == NARRATOR
    assert [(line["event"], line["log_level"]) for line in logs] == [("default_voice_not_available", "info")]


async def test_a_start_sweeps_leftovers(place: Place, manager: VoiceManager) -> None:
    make_voice(place.voices_dir, ".incoming-1")
    prompts = place.cache_dir / "voices"
    prompts.mkdir(parents=True)
    (prompts / ".0123456789abcdef").write_bytes(b"half of a prompt")
    await manager.prepare_default()
    assert place.leftovers() == []
    assert list(prompts.glob(".*")) == []


async def test_a_listing_has_the_default_and_the_reasons_of_unavailable_voices(manager: VoiceManager) -> None:
    listed = {voice.id: voice for voice in manager.list()}
    assert [(voice.id, voice.is_default, voice.available) for voice in listed.values()] == [
        ("makima", True, False),
        ("narrator", False, True),
    ]
    assert (listed["makima"].name, listed["makima"].description) == ("Makima", "Quiet and even.")
    assert listed["narrator"].language == "English"
    assert manager.describe("makima") == listed["makima"]


# --- an engine that cannot clone -------------------------------------------------------------------------


async def test_an_engine_without_cloning_speaks_with_its_own_voice(place: Place) -> None:
    make_voice(place.voices_dir, "anna")
    manager = place.manager(await running(WatchedEngine(cloning=False)))
    own = await manager.prepare_default()
    assert (own.id, own.prompt) == (NARRATOR, None)
    assert (await manager.resolve(NARRATOR)).warning is None
    warning = (await manager.resolve("anna")).warning
    assert warning is not None
    assert "cannot clone" in warning
    with pytest.raises(VoiceNotFound, match="cannot clone"):
        await manager.get("anna")


async def test_an_engine_with_one_voice_lists_all_others_as_not_available(place: Place) -> None:
    make_voice(place.voices_dir, "anna")
    manager = place.manager(WatchedEngine(cloning=False))
    assert {voice.id: voice.available for voice in manager.list()} == {
        "anna": False,
        "makima": False,
        NARRATOR: True,
    }
    assert manager.describe("anna").reason is not None
    assert manager.describe(NARRATOR).available
    assert manager.expect().id == NARRATOR


async def test_the_engines_own_voice_needs_no_folder(place: Place) -> None:
    (place.shipped_dir / "narrator" / "manifest.json").write_text("{")
    manager = place.manager(WatchedEngine(cloning=False))
    assert (await manager.get(NARRATOR)).prompt is None
    assert manager.describe(NARRATOR).available


async def test_voices_can_be_added_though_the_engine_cannot_use_them_yet(place: Place) -> None:
    engine = await running(WatchedEngine(cloning=False))
    listing, _ = await place.manager(engine).add(upload())
    assert (listing.id, listing.available, engine.encodes) == ("anna", False, 0)
    assert place.manager(WatchedEngine()).describe("anna").available


# --- encoded once ----------------------------------------------------------------------------------------


async def test_ten_sessions_that_ask_for_one_voice_encode_it_once(place: Place) -> None:
    gate = asyncio.Event()
    engine = await running(WatchedEngine(encode_gate=gate))
    manager = place.manager(engine)
    asking = [asyncio.create_task(manager.get(NARRATOR)) for _ in range(10)]
    await engine.encoding.wait()
    gate.set()
    assert len({id(voice.prompt) for voice in await asyncio.gather(*asking)}) == 1
    assert engine.encodes == 1


async def test_a_restart_encodes_nothing(place: Place, manager: VoiceManager, engine: WatchedEngine) -> None:
    first = await manager.prepare_default()
    assert engine.encodes == 1
    restarted = await running(WatchedEngine())
    second = await place.manager(restarted).prepare_default()
    assert restarted.encodes == 0
    assert tone_hz(second) == tone_hz(first)
    assert place.metric("voice_encodings_total") == 1


@pytest.mark.parametrize("changed", ["clip", "transcript", "mode", "language"])
async def test_whatever_a_prompt_depends_on_makes_it_encoded_anew(
    place: Place, manager: VoiceManager, engine: WatchedEngine, changed: str
) -> None:
    folder = make_voice(place.voices_dir, "anna")
    await manager.get("anna")
    match changed:
        case "clip":
            (folder / "reference.wav").write_bytes(good_clip(pitch_hz=200.0))
        case "transcript":
            (folder / "transcript.txt").write_text("Other words, as many as before.")
        case "mode" | "language":
            (folder / "manifest.json").unlink()
            (folder / "reference.wav").unlink()
            folder.rmdir()
            values: dict[str, object] = {"mode": "xvector", "language": "de"}
            make_voice(place.voices_dir, "anna", clip=None, **{changed: values[changed]})
    await manager.get("anna")
    assert engine.encodes == 2


async def test_the_same_clip_under_another_name_is_not_encoded_again(
    place: Place, manager: VoiceManager, engine: WatchedEngine
) -> None:
    make_voice(place.voices_dir, "anna")
    make_voice(place.voices_dir, "berta")
    await manager.get("anna")
    await manager.get("berta")
    assert engine.encodes == 1


async def test_a_damaged_cache_file_is_encoded_anew(
    place: Place, manager: VoiceManager, engine: WatchedEngine
) -> None:
    await manager.get(NARRATOR)
    for path in (place.cache_dir / "voices").iterdir():
        path.write_bytes(b"\0" * 100)
    with capture_logs() as logs:
        await place.manager(engine).get(NARRATOR)
    assert [line["event"] for line in logs] == ["voice_cache_file_unreadable"]
    assert engine.encodes == 2
    await place.manager(engine).get(NARRATOR)
    assert engine.encodes == 2


async def test_a_cache_folder_that_cannot_be_written_leaves_the_memory(
    open_place: Place, engine: WatchedEngine, unprivileged: None
) -> None:
    manager = open_place.manager(engine)
    await manager.get(NARRATOR)
    await manager.get(NARRATOR)
    assert engine.encodes == 1


async def test_memory_is_bounded_by_count_bytes_and_time(place: Place, engine: WatchedEngine) -> None:
    names = ["anna", "berta", "clara"]
    for number, name in enumerate(names):
        make_voice(place.voices_dir, name, clip=good_clip(pitch_hz=100.0 + number))
    by_count = place.manager(engine, max_count=2)
    sizes_bytes = [prompt.size_bytes for name in names if (prompt := (await by_count.get(name)).prompt)]
    assert place.metric("voice_cache_evictions_total", reason="count") == 1
    assert place.metric("voice_cache_bytes") == sum(sizes_bytes[1:])

    by_bytes = place.manager(engine, max_bytes=sizes_bytes[0] * 2)
    for name in names:
        await by_bytes.get(name)
    assert place.metric("voice_cache_evictions_total", reason="bytes") == 1

    by_time = place.manager(engine, ttl_s=60.0)
    await by_time.get("anna")
    place.clock.now_s += 60.0
    await by_time.get("berta")
    assert place.metric("voice_cache_evictions_total", reason="ttl") == 1
    assert place.metric("voice_cache_total", result="miss") == 8
    await by_time.get("berta")
    assert place.metric("voice_cache_total", result="hit") == 1


async def test_a_failing_encoder_is_asked_again_next_time(
    manager: VoiceManager, engine: WatchedEngine
) -> None:
    engine.failure = GpuOutOfMemory("Full.")
    with pytest.raises(GpuOutOfMemory):
        await manager.resolve(NARRATOR)
    assert (await manager.resolve(NARRATOR)).warning is None
    assert engine.encodes == 2


async def test_a_voice_that_the_engine_refuses_is_listed_so_until_it_changes(
    place: Place, manager: VoiceManager, engine: WatchedEngine
) -> None:
    folder = make_voice(place.voices_dir, "anna")
    engine.failure = VoiceNotFound("Two people speak in it.")
    warning = (await manager.resolve("anna")).warning
    assert warning is not None
    assert "Two people speak in it." in warning
    assert manager.describe("anna").reason == "Two people speak in it."
    (folder / "reference.wav").write_bytes(good_clip(pitch_hz=200.0))
    assert manager.describe("anna").available
    assert (await manager.resolve("anna")).id == "anna"


async def test_a_clip_that_turns_out_to_be_silent_is_the_voices_reason(
    place: Place, manager: VoiceManager
) -> None:
    make_voice(place.voices_dir, "anna", clip=sound_file(silence(4.0)))
    assert manager.describe("anna").available
    with pytest.raises(VoiceNotFound, match="silent"):
        await manager.get("anna")
    assert "silent" in (manager.describe("anna").reason or "")


async def test_while_a_voice_cannot_be_encoded_the_next_in_line_speaks(
    place: Place, manager: VoiceManager, engine: WatchedEngine
) -> None:
    """A clip that the engine cannot encode must end neither sessions nor the service."""
    make_voice(place.voices_dir, "anna")
    engine.failure = SynthesisError("It stumbled.")
    voice = await manager.resolve("anna")
    assert (voice.id, voice.warning) == (
        NARRATOR,
        "The voice anna could not be encoded now. The voice narrator speaks instead.",
    )
    assert (await manager.resolve("anna")).id == "anna"


async def test_an_engine_that_is_gone_is_no_fault_of_the_voice(
    place: Place, manager: VoiceManager, engine: WatchedEngine
) -> None:
    make_voice(place.voices_dir, "anna")
    engine.failure = TtsUnavailable("It was closed.")
    with pytest.raises(TtsUnavailable):
        await manager.resolve("anna")
