"""Fixtures of voices: an engine, folders, a manager."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest

from makima_tts.metrics import Metrics
from makima_tts.speech import SpeechEngine, VoicePrompt, VoiceReference
from makima_tts.voices import ResolvedVoice, VoiceLibrary, VoiceManager, VoiceUpload
from tests.engines.directed import DirectedEngine
from tests.voices.clips import TRANSCRIPT, good_clip

NOBODY = 65534


class WatchedEngine(DirectedEngine):
    """Sets ``encoding`` when it begins to encode, and can fail once."""

    def __init__(self, *, cloning: bool = True, encode_gate: asyncio.Event | None = None) -> None:
        super().__init__(cloning=cloning, encode_gate=encode_gate)
        self.encoding = asyncio.Event()
        self.failure: Exception | None = None

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        self.encoding.set()
        prompt = await super().encode_voice(reference)
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        return prompt


@dataclass
class Clock:
    """A clock that a test advances."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Place:
    """A service's folders; managers made here are restarts of one service."""

    root: Path
    clock: Clock = field(default_factory=Clock)
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def voices_dir(self) -> Path:
        return self.root / "voices"

    @property
    def shipped_dir(self) -> Path:
        return self.root / "shipped"

    @property
    def cache_dir(self) -> Path:
        return self.root / "cache"

    def library(self, *, max_voices: int = 1000) -> VoiceLibrary:
        return VoiceLibrary(
            self.voices_dir, shipped_dir=self.shipped_dir, max_voices=max_voices, clock=self.clock
        )

    def manager(
        self,
        engine: SpeechEngine,
        *,
        max_count: int = 16,
        max_bytes: int = 2**20,
        ttl_s: float = 60.0,
        default_voice: str = "makima",
    ) -> VoiceManager:
        return VoiceManager(
            self.library(),
            engine,
            cache_dir=self.cache_dir,
            max_count=max_count,
            max_bytes=max_bytes,
            ttl_s=ttl_s,
            default_voice=default_voice,
            metrics=self.metrics,
            clock=self.clock,
        )

    def leftovers(self) -> list[str]:
        """Hidden files in the operator's folder: there should be none."""
        return [path.name for path in self.voices_dir.glob(".*")]

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"makima_tts_{name}", labels) or 0.0


def make_voice(root: Path, voice_id: str, *, clip: bytes | None = None, **fields: object) -> Path:
    """A folder named as its id; ``clip`` b"" is a voice without one."""
    folder = root / voice_id
    folder.mkdir(parents=True)
    manifest = {"id": voice_id, "reference_audio": "reference.wav", "transcript": TRANSCRIPT} | fields
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if clip != b"":
        (folder / "reference.wav").write_bytes(clip or good_clip())
    return folder


def upload(
    name: str = "Anna", *, audio: bytes | None = None, transcript: str | None = TRANSCRIPT
) -> VoiceUpload:
    """A valid upload by default."""
    return VoiceUpload(BytesIO(good_clip() if audio is None else audio), name, transcript)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """With a narrator and a makima without clip that ship, and no folder for the operator's voices yet."""
    place = Place(tmp_path)
    make_voice(place.shipped_dir, "narrator", name="Narrator", language="en")
    make_voice(
        place.shipped_dir, "makima", clip=b"", name="Makima", description="Quiet and even.", transcript=None
    )
    return place


@pytest.fixture
async def engine() -> WatchedEngine:
    """Running."""
    return await running(WatchedEngine())


@pytest.fixture
def manager(place: Place, engine: WatchedEngine) -> VoiceManager:
    return place.manager(engine)


def tone_hz(voice: ResolvedVoice) -> float:
    """The scripted engine's tone for the clip."""
    assert voice.prompt is not None
    return float(voice.prompt.tensors["tone_hz"][0])


async def running(engine: WatchedEngine) -> WatchedEngine:
    await engine.start(lambda *_: None)
    return engine


@pytest.fixture
def open_place(place: Place) -> Iterator[Place]:
    """The same where an unprivileged user may read; see ``unprivileged``."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    shutil.copytree(place.shipped_dir, root / "shipped")
    yield Place(root)
    shutil.rmtree(root)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root ignores file permissions, so tests of them run as an unprivileged user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
