"""Recordings of any origin are read; one that is cut off or damaged is refused or warned of."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.audio import Clip, ClipReport, check_header, demuxing, read_clip
from makima_tts.audio.demuxing import OPTIONS
from makima_tts.errors import InvalidClip
from tests.audio.recordings import (
    DURATION_S,
    RATE_HZ,
    alias,
    id3_tag,
    mp4,
    recorded,
    sized,
    streamed,
    wav,
    with_chunk,
)
from tests.voices.clips import silence, sound_file, speech

FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"
UNKNOWN = 0xFFFFFFFF
INFO = b"INFOISFT\3\0\0\0abc\0"

RECORDINGS: dict[str, Callable[[], bytes]] = {
    "m4a": lambda: recorded("ipod", "aac", 44_100),
    "m4a, lossless": lambda: recorded("ipod", "alac", 48_000),
    "mp4 with video": lambda: recorded("mp4", "aac", 48_000, with_video=True),
    "mp4 in fragments": lambda: recorded("mp4", "aac", 48_000, movflags=FRAGMENTS),
    "mp4 with Opus": lambda: recorded("mp4", "libopus", 48_000),
    "mov": lambda: recorded("mov", "pcm_s16le", with_video=True),
    "3gp": lambda: recorded("3gp", "libopencore_amrnb", 8_000),
    "3gp with AAC": lambda: recorded("3gp", "aac"),
    "amr": lambda: recorded("amr", "libopencore_amrnb", 8_000),
    "caf": lambda: recorded("caf", "alac", 48_000),
    "caf, PCM": lambda: recorded("caf", "pcm_s24be"),
    "webm": lambda: recorded("webm", "libopus", 48_000),
    "webm as a browser records it": lambda: recorded("webm", "libopus", 48_000, live="1"),
    "matroska with video": lambda: recorded("matroska", "aac", with_video=True),
    "aiff": lambda: recorded("aiff", "pcm_s16be"),
    "aifc": lambda: recorded("aiff", "pcm_s16le"),
    "adts": lambda: recorded("adts", "aac"),
    "adts after a tag": lambda: recorded("adts", "aac", write_id3v2="1"),
    "ogg, Opus": lambda: recorded("ogg", "libopus", 48_000),
    "mp3": lambda: recorded("mp3", "libmp3lame"),
    "mp3 without a number of frames": lambda: recorded("mp3", "libmp3lame", write_xing="0"),
    "mp3 after a large tag": lambda: id3_tag(1_500_000) + recorded("mp3", "libmp3lame", id3v2_version="0"),
    "mp3 after junk": lambda: bytes(range(256)) * 200 + recorded("mp3", "libmp3lame", id3v2_version="0"),
    "mp3 after white space": lambda: b"\r\n" * 10 + recorded("mp3", "libmp3lame", id3v2_version="0"),
    "mp3 before a tag": lambda: recorded("mp3", "libmp3lame") + b"TAG" + bytes(125),
    "wav, MP3": lambda: recorded("wav", "libmp3lame"),
    "wav, ADPCM": lambda: recorded("wav", "adpcm_ms"),
    "our wav": lambda: streamed("wav"),
    "our mp3": lambda: streamed("mp3"),
    "our flac": lambda: streamed("flac"),
    "our aac": lambda: streamed("aac"),
    "our opus": lambda: streamed("opus"),
    "flac after a tag": lambda: id3_tag(1000) + sound_file(speech(DURATION_S), kind="FLAC"),
    "wav without sizes": lambda: sized(0, 0),
    "wav of unknown sizes": lambda: sized(UNKNOWN, UNKNOWN),
    "wav of a pipe": lambda: sized(0x7FFFF024, 0x7FFFF000),
    "wav of an unknown size": lambda: sized(len(wav()) - 8, UNKNOWN),
    "wav with an odd chunk": lambda: with_chunk(b"junk", b"odd"),
    "wav with a list before its samples": lambda: with_chunk(b"LIST", INFO),
    "rf64": lambda: sound_file(speech(DURATION_S), kind="RF64"),
}
# What these say of their length, if anything, is not read: any cut between two packets is as good as the end.
UNSTATED = {
    *("amr", "adts", "adts after a tag", "mp4 in fragments", "webm as a browser records it", "caf, PCM"),
    *("mp3 without a number of frames", "mp3 after white space", "mp3 after junk"),
    *("our wav", "our mp3", "our aac", "wav without sizes", "wav of unknown sizes", "wav of a pipe"),
}


@cache
def recording(name: str) -> bytes:
    return RECORDINGS[name]()


def read(content: bytes) -> tuple[Clip, ClipReport]:
    return read_clip(BytesIO(content))


def says_damaged(report: ClipReport) -> bool:
    return any("cut off or damaged" in warning for warning in report.warnings)


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_read_whatever_made_it(name: str) -> None:
    check_header(BytesIO(recording(name)))
    clip, report = read(recording(name))
    assert clip.duration_s == pytest.approx(DURATION_S, abs=0.13)
    assert report.level_dbfs == pytest.approx(-20.6, abs=0.7)
    assert report.mended == ()
    assert not says_damaged(report)


@pytest.mark.parametrize("output_format", ["pcm", "mulaw", "alaw"])
def test_samples_without_a_header_are_refused(output_format: Any) -> None:
    with pytest.raises(InvalidClip, match="not a sound file"):
        read(streamed(output_format))


def test_channels_of_every_kind_are_mixed_down() -> None:
    pcm = np.stack([speech(DURATION_S, RATE_HZ), silence(DURATION_S, RATE_HZ)], axis=1)
    for container, codec in [("ipod", "alac"), ("mov", "pcm_s24le"), ("caf", "pcm_f32le"), ("wav", "pcm_u8")]:
        clip, report = read(recorded(container, codec, RATE_HZ, pcm))
        assert (report.channels, report.mended) == (2, ("mixed down to mono",))
        whole = speech(DURATION_S, RATE_HZ)[: clip.pcm.size]
        assert np.allclose(clip.pcm, whole / 2, atol=0.01)


@pytest.mark.parametrize("name", sorted(RECORDINGS.keys() - UNSTATED))
def test_a_recording_that_was_cut_off_is_refused_or_warned_of(name: str) -> None:
    content = recording(name)
    try:
        clip, report = read(content[: int(len(content) * 0.85)])
    except InvalidClip:
        return
    assert clip.duration_s < DURATION_S
    assert says_damaged(report)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_part_of_a_recording_is_read_or_refused(data: st.DataObject) -> None:
    content = recording(data.draw(st.sampled_from(sorted(RECORDINGS))))
    kept = data.draw(st.integers(0, len(content)) | st.integers(0, 600))
    try:
        clip, _ = read(content[:kept])
    except InvalidClip:
        return
    assert 3.0 <= clip.duration_s <= DURATION_S + 0.2


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_recording_with_any_byte_changed_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(recording(data.draw(st.sampled_from(sorted(RECORDINGS)))))
    # Headers and indexes are at one end.
    place = data.draw(st.integers(0, 600) | st.integers(-1200, -1) | st.integers(0, len(content) - 1))
    content[max(place, -len(content)) % len(content)] = data.draw(st.integers(0, 255))
    try:
        clip, _ = read(bytes(content))
    except InvalidClip:
        return
    assert 3.0 <= clip.duration_s <= 60.0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_noise_after_any_magic_bytes_is_refused(data: st.DataObject) -> None:
    magic = recording(data.draw(st.sampled_from(sorted(RECORDINGS))))[: data.draw(st.integers(0, 64))]
    with pytest.raises(InvalidClip):
        read(magic + data.draw(st.binary(max_size=3000)))


# --- what FFmpeg could be led to open --------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def was_called(listener: socket.socket) -> bool:
    """Whether a connection waits."""
    try:
        listener.accept()
    except BlockingIOError:
        return False
    return True


def playlists(address: str, path: Path) -> dict[str, str]:
    """FFmpeg's demuxers that open what a text names, and such texts."""
    segment = f"<BaseURL>{address}</BaseURL><SegmentBase/>"
    representation = f"<Representation id='1' bandwidth='1'>{segment}</Representation>"
    adaptations = f"<AdaptationSet mimeType='audio/mp4'>{representation}</AdaptationSet>"
    parts = f"#EXTINF:5,\n{address}\n#EXTINF:5,\n{path}\n"
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n{parts}#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{path}'\nfile '{address}'\n",
        "dash": f"<MPD type='static'><Period>{adaptations}</Period></MPD>",
        "sdp": f"v=0\nc=IN IP4 127.0.0.1\nm=audio {address.rpartition(':')[2][:-6]} RTP/AVP 0\n",
        "image2": str(path),
    }


@pytest.mark.parametrize("name", ["hls", "concat", "dash", "sdp", "image2"])
def test_a_playlist_is_no_clip_and_opens_nothing(name: str, listener: socket.socket, tmp_path: Path) -> None:
    (path := tmp_path / "speech.wav").write_bytes(wav())
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.wav"
    content = playlists(address, path)[name].encode()
    for head in (b"", id3_tag(10), b"\xef\xbb\xbf"):
        with pytest.raises(InvalidClip, match="not a sound file"):
            read(head + content)
    assert not was_called(listener)


def test_even_the_demuxer_of_playlists_could_open_nothing(listener: socket.socket, tmp_path: Path) -> None:
    """Were one chosen, no protocol would be left to it."""
    (path := tmp_path / "speech.wav").write_bytes(wav())
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.wav"
    for name in ("hls", "concat"):
        with (
            pytest.raises(av.FFmpegError),
            av.open(
                BytesIO(playlists(address, path)[name].encode()), "r", format=name, options=OPTIONS
            ) as opened,
        ):
            list(opened.decode(audio=0))
    assert not was_called(listener)


@pytest.mark.parametrize(
    ("options", "opened"),
    [
        ({}, False),
        ({"enable_drefs": "1", "use_absolute_path": "1"}, False),
        # So the reference is one that FFmpeg follows.
        ({"enable_drefs": "1", "use_absolute_path": "1", "protocol_whitelist": "file"}, True),
    ],
)
def test_a_movie_opens_no_other_file(
    options: dict[str, str], opened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = speech(DURATION_S, RATE_HZ)
    (path := tmp_path / "speech.raw").write_bytes((samples * 32767).astype("<i2").tobytes())
    monkeypatch.setattr(demuxing, "OPTIONS", OPTIONS | options)
    content = mp4(samples.size, alias(str(path)))
    if opened:
        assert read(content)[1].duration_ms == DURATION_S * 1000
    else:
        with pytest.raises(InvalidClip):
            read(content)


def test_a_file_with_a_name_is_read_without_it(tmp_path: Path) -> None:
    """PyAV would give FFmpeg the name of the file, which may be an address or a pattern."""
    path = tmp_path / "playlist%03d.m3u8"
    path.write_bytes(recording("m4a"))
    with path.open("rb") as file:
        assert read_clip(file)[0].duration_s == pytest.approx(DURATION_S, abs=0.1)


def test_one_packet_cannot_ask_for_more_memory_than_a_clip_needs() -> None:
    with pytest.raises(MemoryError):
        av.Packet(32 * 2**20)


def test_ffmpeg_is_loaded_for_what_libsndfile_cannot_read_alone() -> None:
    code = (
        "import io, sys; from makima_tts.audio import read_clip; from tests.voices.clips import good_clip;"
        "read_clip(io.BytesIO(good_clip())); assert 'av' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
