"""The conformance suite for the qwen-tts backend, to be run in the environment of the qwen-tts package.

In: a checkpoint, named by MAKIMA_TTS_TEST_CHECKPOINT. Out: the laws of SpeechEngine. Does not know: how the
tests of the suite look; it only says which engine they are about.
"""

import os
from collections.abc import Callable

import pytest

from makima_tts.engines.official import OfficialEngine
from makima_tts.speech import SpeechEngine
from tests.engines.test_conformance import *  # noqa: F403


@pytest.fixture(scope="module")  # type: ignore[no-redef]
def make_engine() -> Callable[[], SpeechEngine]:
    """Takes the place of the suite's own, which makes the engines of the main environment."""
    checkpoint = os.environ["MAKIMA_TTS_TEST_CHECKPOINT"]
    return lambda: OfficialEngine(model_id=checkpoint, device="cpu", offline=True)
