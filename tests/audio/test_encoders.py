"""Laws of every format: length, first bytes, rates, and no audible chunk boundaries."""

import gc
import io
from typing import get_args

import av
import numpy as np
import pytest

from makima_tts.audio import MEDIA_TYPES, OutputFormat, open_encoder, rate_of
from makima_tts.audio.pcm import G711Encoding, compand
from makima_tts.errors import InvalidMessage, SynthesisError
from tests.audio.streams import ENGINE_RATE_HZ, FRAME_SAMPLES, Samples, decoded, encoded, frames_of

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
RATES_HZ = (8000, 16000, 22050, 24000, 44100, 48000)
TELEPHONE: tuple[G711Encoding, ...] = ("mulaw", "alaw")
TONE_HZ = 440.0


def has(wanted: OutputFormat, rate_hz: int) -> bool:
    try:
        return rate_of(wanted, rate_hz) == rate_hz
    except InvalidMessage:
        return False


ALL = [(wanted, rate_hz) for wanted in FORMATS for rate_hz in RATES_HZ if has(wanted, rate_hz)]


def tone(samples: int) -> Samples:
    phase = 2 * np.pi * TONE_HZ * np.arange(samples) / ENGINE_RATE_HZ
    return (0.5 * np.sin(phase)).astype(np.float32)


def impurity(pcm: Samples, rate_hz: int) -> float:
    """The largest residual after removing the best-fitting sine, relative to its level.

    Encoders that reckon with sounds in the past need half a second until they have the tone.
    """
    inner = pcm[rate_hz // 2 : -rate_hz // 3].astype(np.float64)
    phase = 2 * np.pi * TONE_HZ * np.arange(inner.size) / rate_hz
    waves = np.stack([np.sin(phase), np.cos(phase)], axis=1)  # [samples, 2]
    level, *_ = np.linalg.lstsq(waves, inner, rcond=None)
    return float(np.abs(inner - waves @ level).max() / np.hypot(*level))


@pytest.mark.parametrize(("wanted", "rate_hz"), ALL)
def test_a_tone_is_continuous_across_chunks_and_a_lost_sample_is_detected(
    wanted: OutputFormat, rate_hz: int
) -> None:
    whole = frames_of(tone(2 * ENGINE_RATE_HZ))
    broken = [*whole[:12], whole[12][1:], *whole[13:]]
    unbroken, lost = (decoded(encoded(parts, wanted, rate_hz), wanted, rate_hz) for parts in (whole, broken))
    assert impurity(*unbroken) < 0.05 < impurity(*lost)


@pytest.mark.parametrize(("wanted", "rate_hz"), ALL)
@pytest.mark.parametrize("samples", [FRAME_SAMPLES, 40_007])
def test_nothing_is_lost_at_the_end(wanted: OutputFormat, rate_hz: int, samples: int) -> None:
    heard, heard_hz = decoded(encoded(frames_of(tone(samples)), wanted, rate_hz), wanted, rate_hz)
    # The delay of MP3 and AAC, which their containers cannot declare in a stream.
    ahead_samples = {"mp3": 1105, "aac": 1024}.get(wanted, 0)
    # The rest of the last frame; LAME pads with 47 samples at least.
    last_frame_samples = {"mp3": 47 + (576 if rate_hz < 32_000 else 1152), "aac": 1024}.get(wanted, 0)
    extra_samples = heard.size - ahead_samples - samples * heard_hz / ENGINE_RATE_HZ
    # Opus counts at 48 kHz what it encodes at its own rate.
    assert -heard_hz / rate_hz <= extra_samples <= last_frame_samples + heard_hz / rate_hz


@pytest.mark.parametrize("speed", [1.0, 1.3])
@pytest.mark.parametrize("wanted", FORMATS)
def test_any_split_of_the_samples_gives_the_same_bytes(wanted: OutputFormat, speed: float) -> None:
    random = np.random.default_rng(5)
    pcm = random.uniform(-0.5, 0.5, 20_000).astype(np.float32)
    whole = encoded([pcm], wanted, rate_of(wanted, None), speed)
    for count in (3, 40):
        parts = np.split(pcm, np.sort(random.integers(0, pcm.size, count)))
        assert encoded(parts, wanted, rate_of(wanted, None), speed) == whole


@pytest.mark.parametrize("wanted", FORMATS)
def test_the_first_bytes_come_with_the_first_frames(wanted: OutputFormat) -> None:
    encoder = open_encoder(wanted, ENGINE_RATE_HZ, rate_of(wanted, None))
    first, second = (encoder.encode(frame) for frame in frames_of(tone(2 * FRAME_SAMPLES)))
    assert second
    # An AAC encoder looks a frame of 43 ms ahead, after one of silence.
    assert bool(first) == (wanted != "aac")


@pytest.mark.parametrize("wanted", FORMATS)
def test_nan_and_inf_are_refused(wanted: OutputFormat) -> None:
    pcm = tone(FRAME_SAMPLES)
    pcm[17] = np.nan
    with pytest.raises(SynthesisError):
        open_encoder(wanted, ENGINE_RATE_HZ, rate_of(wanted, None)).encode(pcm)


@pytest.mark.parametrize("wanted", ["mp3", "opus", "flac", "aac"])
def test_a_stream_that_is_given_up_leaves_nothing_for_the_garbage_collector(wanted: OutputFormat) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            open_encoder(wanted, ENGINE_RATE_HZ, 24_000).encode(tone(FRAME_SAMPLES))
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("wanted", "container", "codec"),
    [
        ("wav", "wav", "pcm_s16le"),
        ("mp3", "mp3", "mp3float"),
        ("opus", "ogg", "opus"),
        ("flac", "flac", "flac"),
        ("aac", "aac", "aac"),
    ],
)
def test_a_stream_is_what_its_media_type_says(wanted: OutputFormat, container: str, codec: str) -> None:
    with av.open(io.BytesIO(encoded(frames_of(tone(20_000)), wanted, 24_000))) as opened:
        assert (opened.format.name, opened.streams.audio[0].codec_context.name) == (container, codec)
        assert opened.streams.audio[0].codec_context.channels == 1
    assert set(MEDIA_TYPES) == set(FORMATS)


@pytest.mark.parametrize(
    ("wanted", "rate_hz", "allowed"),
    [
        ("opus", 22_050, "8000, 16000, 24000, 48000"),
        ("mulaw", 16_000, "8000"),
        ("alaw", 24_000, "8000"),
    ],
)
def test_a_rate_that_a_format_has_not_is_refused_with_those_it_has(
    wanted: OutputFormat, rate_hz: int, allowed: str
) -> None:
    with pytest.raises(InvalidMessage, match=allowed):
        rate_of(wanted, rate_hz)


def test_without_a_requested_rate_the_format_has_its_default() -> None:
    assert {rate_of(wanted, None) for wanted in FORMATS if wanted not in TELEPHONE} == {24_000}
    assert {rate_of(wanted, None) for wanted in TELEPHONE} == {8000}


@pytest.mark.parametrize(
    ("law", "known"),
    [
        ("mulaw", {0: 0xFF, -1: 0x7F, 1000: 0xCE, -1000: 0x4E, 32767: 0x80, -32768: 0x00}),
        ("alaw", {0: 0xD5, -1: 0x55, 1000: 0xFA, -1000: 0x7A, 32767: 0xAA, -32768: 0x2A}),
    ],
)
def test_g711_has_its_standards_values(law: G711Encoding, known: dict[int, int]) -> None:
    assert compand(np.array(list(known), np.int16), law) == bytes(known.values())


@pytest.mark.parametrize("law", TELEPHONE)
def test_g711_is_as_near_to_the_samples_as_another_encoders(law: G711Encoding) -> None:
    samples = np.arange(-32768, 32768).astype(np.int16)
    encoder = av.CodecContext.create("pcm_mulaw" if law == "mulaw" else "pcm_alaw", "w")
    assert isinstance(encoder, av.audio.codeccontext.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = 8000, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
    frame.sample_rate = 8000
    theirs = b"".join(bytes(packet) for packet in encoder.encode(frame))
    ours = compand(samples, law)
    off, off_theirs = (
        np.abs(decoded(content, law, 8000)[0] * 32767 - samples).mean() for content in (ours, theirs)
    )
    # FFmpeg has other segment boundaries, and rounds where the standard truncates.
    assert np.mean(np.frombuffer(ours, np.uint8) == np.frombuffer(theirs, np.uint8)) > 0.98
    assert off < 1.01 * off_theirs
