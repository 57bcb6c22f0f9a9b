"""The conformance suite with the qwen-tts engine, for the environment of the qwen-tts package.

MAKIMA_TTS_TEST_CHECKPOINT names the checkpoint.
"""

import os
from collections.abc import Callable

import pytest

from makima_tts.engines.official import OfficialEngine, OfficialModel
from makima_tts.speech import SpeechEngine
from tests.engines.test_conformance import *  # noqa: F403


@pytest.fixture(scope="module")  # type: ignore[no-redef]
def make_engine() -> Callable[[], SpeechEngine]:
    """Replaces the fixture of the suite, which creates the engines of the main environment."""
    checkpoint = os.environ["MAKIMA_TTS_TEST_CHECKPOINT"]
    return lambda: OfficialEngine(OfficialModel(checkpoint, device="cpu", offline=True))
