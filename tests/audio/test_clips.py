"""Reference clips: accepted formats, refusals, mending, reports."""

from io import BytesIO
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.audio import Clip, ClipReport, check_header, read_clip, read_clip_as_it_is, write_clip
from makima_tts.errors import InvalidClip
from makima_tts.text import usual_speech_s
from tests.voices.clips import TRANSCRIPT, Pcm, good_clip, silence, sound_file, speech


def read(content: bytes) -> tuple[Clip, ClipReport]:
    return read_clip(BytesIO(content))


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidClip) as refused:
        read(content)
    return refused.value.message


def written(clip: Clip) -> bytes:
    file = BytesIO()
    write_clip(file, clip)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAVEX", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_the_usual_kinds_are_read(kind: str, subtype: str) -> None:
    clip, report = read(sound_file(speech(5.0), 24_000, kind, subtype))
    assert clip.pcm.dtype == np.float32
    assert clip.duration_s == pytest.approx(5.0, abs=0.1)
    assert report.level_dbfs == pytest.approx(-20.6, abs=0.5)
    assert report.warnings == () or kind in ("MP3", "OGG") or subtype == "PCM_U8"


@pytest.mark.parametrize("kind", ["AU", "W64", "VOC", "SVX", "NIST", "IRCAM", "PVF", "MAT5"])
def test_unusual_formats_are_refused_by_content_not_by_name(kind: str) -> None:
    assert "Allowed: WAV, AIFF" in refusal(sound_file(speech(4.0, 16_000), 16_000, kind))


@pytest.mark.parametrize("content", [b"", b"RIFF", b"hello " * 1000, b"\0" * 10_000, b"<html></html>"])
def test_a_file_without_audio_format_is_refused(content: bytes) -> None:
    assert "not a sound file" in refusal(content)
    with pytest.raises(InvalidClip, match="not a sound file"):
        check_header(BytesIO(content))


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 192_000])
def test_a_clip_stays_at_its_own_rate(rate_hz: int) -> None:
    clip, report = read(sound_file(speech(5.0, rate_hz), rate_hz))
    assert (clip.sample_rate_hz, report.sample_rate_hz) == (rate_hz, rate_hz)
    assert any("telephone" in warning for warning in report.warnings) == (rate_hz == 8_000)


@pytest.mark.parametrize("rate_hz", [7_999, 192_001, 1, 768_000])
def test_rates_that_no_voice_is_recorded_at_are_refused(rate_hz: int) -> None:
    content = sound_file(silence(1.0, 8000), rate_hz)
    assert f"{rate_hz} samples" in refusal(content)
    with pytest.raises(InvalidClip):
        check_header(BytesIO(content))


def test_more_than_eight_channels_are_refused() -> None:
    assert "9 channels" in refusal(sound_file(np.stack([speech(4.0)] * 9, axis=1)))


def test_a_clip_that_is_too_short_is_refused() -> None:
    assert "only 2.9 s" in refusal(sound_file(speech(2.9, 8000), 8000))


@pytest.mark.parametrize("duration_s", [60.1, 75.0])
def test_a_clip_that_is_too_long_is_cut_at_a_pause_unless_it_has_a_transcript(duration_s: float) -> None:
    content = sound_file(speech(duration_s, 8000), 8000)
    clip, report = read(content)
    assert 45.0 < clip.duration_s < 60.0
    # The pauses are in the last fifth of each second.
    assert 0.8 < clip.duration_s % 1 < 1.0
    assert (report.duration_ms, report.mended) == (60_000, ("cut at a pause before 60 s",))
    with pytest.raises(InvalidClip, match=r"longer than 60 s.*without a transcript"):
        read_clip(BytesIO(content), TRANSCRIPT)
    with pytest.raises(InvalidClip, match="longer than 60 s"):
        read_clip_as_it_is(BytesIO(content))


@pytest.mark.parametrize("duration_s", [3.0, 60.0])
def test_the_bounds_themselves_are_allowed_and_warned_of(duration_s: float) -> None:
    _, report = read(sound_file(speech(duration_s, 16_000), 16_000))
    assert ["5 to 15 s" in warning for warning in report.warnings] == [True]


def test_silence_around_too_little_sound_does_not_make_it_long_enough() -> None:
    pcm = np.concatenate([silence(3.0), speech(1.0), silence(3.0)])
    assert "of sound" in refusal(sound_file(pcm))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused(bad: float) -> None:
    pcm = speech(4.0)
    pcm[50_000] = bad
    assert "not numbers" in refusal(sound_file(pcm, subtype="FLOAT"))


@pytest.mark.parametrize("level", [0.0, 1e-5])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_silence_with_any_offset_is_refused(level: float, offset: float) -> None:
    assert "silent" in refusal(sound_file(speech(4.0) * level + np.float32(offset), subtype="FLOAT"))


def test_a_file_without_samples_holds_no_sound() -> None:
    assert "empty" in refusal(sound_file(np.zeros(0, np.float32)))


def test_heavy_clipping_is_refused_and_a_little_is_warned_of() -> None:
    assert "clipped" in refusal(sound_file(np.clip(speech(5.0) * 20, -1, 1)))
    pcm = speech(5.0)
    pcm[1000:1060] = 1.0
    _, report = read(sound_file(pcm))
    assert report.clipped_ratio == pytest.approx(60 / 120_000, rel=0.01)
    assert [warning for warning in report.warnings if "clipped" in warning]


def test_float_samples_beyond_full_scale_count_as_clipped_and_stay_within_it() -> None:
    pcm = speech(5.0)
    pcm[::1000] = 1e30
    clip, report = read(sound_file(pcm, subtype="FLOAT"))
    assert report.clipped_ratio == pytest.approx(0.001, rel=0.01)
    assert np.abs(clip.pcm).max() <= 1.0


SENTENCES = {
    "English": "The rain had stopped by the time we reached the harbour. ",
    "German": "Es regnete nicht mehr, und am Hafen gingen die Lampen an. ",
    "Spanish": "La lluvia había cesado cuando llegamos al puerto. ",
    "Chinese": "我们走到港口的时候雨已经停了。",
    "Japanese": "港に着いたころには雨はもう上がっていました。",
    "Russian": "Когда мы добрались до гавани, дождь уже кончился. ",
}


@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize(
    ("pace", "warned"), [(0.2, "short"), (0.6, None), (1.0, None), (1.6, None), (3.0, "long")]
)
def test_a_transcript_is_compared_at_the_rate_of_its_language(
    language: str, pace: float, warned: str | None
) -> None:
    """``pace``: of one who says it in the clip, relative to the usual one."""
    text = SENTENCES[language] * 20
    spoken_s = 6.0 * pace
    text = next(text[:end] for end in count(1) if usual_speech_s(text[:end], language) >= spoken_s)
    _, report = read_clip(BytesIO(good_clip()), text, language)
    assert [f"is {warned} for this clip" in warning for warning in report.warnings] == [True] * bool(warned)


# --- mending ---------------------------------------------------------------------------------------------


def stereo(left: Pcm, right: Pcm) -> Pcm:
    return np.stack([left, right], axis=1)


def test_two_channels_become_one() -> None:
    clip, report = read(sound_file(stereo(speech(5.0), silence(5.0)), subtype="FLOAT"))
    assert np.allclose(clip.pcm, speech(5.0) / 2, atol=1e-3)
    assert (report.channels, report.mended) == (2, ("mixed down to mono",))


def test_six_channels_become_one() -> None:
    pcm = np.stack([silence(5.0), silence(5.0), speech(5.0), *[silence(5.0)] * 3], axis=1)
    clip, report = read(sound_file(pcm, subtype="FLOAT"))
    assert (report.channels, report.mended) == (6, ("mixed down to mono", "raised the level"))
    assert np.corrcoef(clip.pcm, speech(5.0))[0, 1] > 0.999


@pytest.mark.parametrize("offset", [0.0, 0.1])
@pytest.mark.parametrize("gain", [1.0, 0.6])
def test_of_channels_that_cancel_each_other_the_loudest_is_taken(gain: float, offset: float) -> None:
    pcm = stereo(speech(5.0) * np.float32(-gain), speech(5.0)) + np.float32(offset)
    clip, report = read(sound_file(pcm, subtype="FLOAT"))
    assert np.allclose(np.abs(clip.pcm), np.abs(speech(5.0)), atol=2e-3)
    assert (report.channels, report.mended[0]) == (2, "took one channel")
    assert ["opposite phase" in warning for warning in report.warnings] == [True]


@given(share=st.floats(0, 1), level=st.floats(0.1, 1))
@settings(max_examples=20, deadline=None)
def test_channels_that_do_not_cancel_each_other_are_mixed(share: float, level: float) -> None:
    """Of one source at any position, with room noise of its own in each channel."""
    noise = np.random.default_rng(3).standard_normal((40_000, 2)) * 0.01
    source = speech(5.0, 8000)[:, np.newaxis] * np.array([share, 1 - share]) * level
    _, report = read(sound_file(np.asarray(source + noise, np.float32), 8000, subtype="FLOAT"))
    assert "mixed down to mono" in report.mended


def test_an_offset_is_removed() -> None:
    clip, report = read(sound_file(speech(5.0) * 0.5 + np.float32(0.2), subtype="FLOAT"))
    assert abs(float(clip.pcm.mean())) < 1e-4
    assert report.mended == ("removed a DC offset",)


def test_silence_at_the_ends_is_cut_to_half_a_second() -> None:
    pcm = np.concatenate([silence(2.0), speech(6.0), silence(3.0)])
    clip, report = read(sound_file(pcm))
    # The speech itself ends with a pause of 0.2 s, after a falling syllable.
    assert clip.duration_s == pytest.approx(6.0 + 0.5 + 0.5 - 0.25, abs=0.1)
    assert report.trailing_silence_ms == pytest.approx(3250, abs=80)
    assert (report.duration_ms, report.mended) == (11_000, ("cut silence at the ends",))
    assert report.used_ms == round(clip.duration_s * 1000)


def test_a_quiet_clip_is_raised_and_a_very_quiet_one_warned_of() -> None:
    clip, report = read(sound_file(speech(5.0) * np.float32(0.1), subtype="FLOAT"))
    assert report.level_dbfs == pytest.approx(-40.6, abs=0.5)
    assert report.mended == ("raised the level",)
    assert 20 * np.log10(np.sqrt(np.mean(clip.pcm**2))) == pytest.approx(-23.0, abs=0.5)
    assert report.warnings == ("Quiet: record it closer to the microphone.",)


def test_raising_the_level_does_not_clip() -> None:
    pcm = speech(5.0) * np.float32(0.05)
    pcm[5000] = 0.5
    clip, _ = read(sound_file(pcm, subtype="FLOAT"))
    assert np.abs(clip.pcm).max() <= 0.9


def test_a_good_clip_is_left_as_it_is() -> None:
    pcm = speech(6.0)
    clip, report = read(sound_file(pcm, subtype="FLOAT"))
    assert np.allclose(clip.pcm, pcm, atol=1e-3)
    assert (report.mended, report.warnings) == ((), ())


def test_a_noisy_clip_is_warned_of() -> None:
    noise = np.random.default_rng(2).standard_normal(144_000).astype(np.float32) * np.float32(0.02)
    _, report = read(sound_file(speech(6.0) + noise))
    assert report.noise_floor_dbfs == pytest.approx(-34.0, abs=1.0)
    assert [warning for warning in report.warnings if "Noisy" in warning]


@settings(max_examples=15, deadline=None)
@given(
    leading_s=st.floats(0, 3),
    trailing_s=st.floats(0, 3),
    gain=st.floats(0.02, 2.0),
    offset=st.floats(-0.2, 0.2),
)
def test_what_was_mended_needs_no_mending(
    leading_s: float, trailing_s: float, gain: float, offset: float
) -> None:
    pcm = np.concatenate([silence(leading_s, 8000), speech(4.0, 8000), silence(trailing_s, 8000)])
    first, _ = read(sound_file(pcm * np.float32(gain) + np.float32(offset), 8000, subtype="FLOAT"))
    second, report = read(written(first))
    assert report.mended == ()
    # Except an offset too small to report, and the rounding to 16 bits.
    assert np.allclose(second.pcm, first.pcm, atol=2.1e-3)
