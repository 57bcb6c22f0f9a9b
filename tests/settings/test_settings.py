"""Settings: defaults, sources, validation, the choice of an engine."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from makima_tts import factory
from makima_tts.errors import TtsUnavailable
from makima_tts.settings import Settings, UnknownSettings, load_settings


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, without a .env."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_owners_settings_exist_with_their_defaults() -> None:
    settings = load_settings()
    assert settings.engine == "auto"
    assert settings.model_id == "Qwen/Qwen3-TTS-12Hz-0.6B-Base"
    assert settings.device == "auto"
    assert settings.voices_dir == Path("voices")
    assert settings.default_voice == "makima"
    assert settings.host == "127.0.0.1"


def test_the_environment_overrides_the_file(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / ".env").write_text("TTS_PORT=9000\nTTS_DEFAULT_VOICE=alice\nOTHER=1\n")
    monkeypatch.setenv("TTS_PORT", "9001")
    settings = load_settings()
    assert (settings.port, settings.default_voice) == (9001, "alice")


@pytest.mark.parametrize("place", ["environment", "file"])
def test_an_unknown_setting_prevents_the_start(
    place: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "environment":
        monkeypatch.setenv("TTS_MAX_TEXT_CHAR", "5")
    else:
        (nowhere / ".env").write_text("TTS_MAX_TEXT_CHAR=5\n")
    with pytest.raises(UnknownSettings, match=r"TTS_MAX_TEXT_CHAR.*Known:.*TTS_MAX_TEXT_CHARS"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "70000"), ("ENGINE", "espeak"), ("IDLE_TIMEOUT_S", "0"), ("LOG_LEVEL", "loud")],
)
def test_an_invalid_value_prevents_the_start(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TTS_{name}", value)
    with pytest.raises(ValidationError):
        load_settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_settings().port = 5  # type: ignore[misc]


def test_origins_are_a_comma_separated_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_ALLOWED_ORIGINS", "https://a.example, https://b.example/")
    assert load_settings().allowed_origins == ("https://a.example", "https://b.example")


def test_an_empty_revision_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_MODEL_REVISION", "")
    assert load_settings().model_revision is None


def test_auto_selects_the_preview_engine_and_says_what_qwen3_lacks() -> None:
    choice = factory.choose_engine(Settings(_env_file=None))
    assert choice.name == "preview"
    assert "Qwen3-TTS cannot run" in choice.reason
    assert any("Qwen/Qwen3-TTS-12Hz-0.6B-Base" in one for one in choice.lacks)


def test_auto_selects_qwen3_when_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "qwen3_lacks", lambda *_: ())
    assert factory.choose_engine(Settings(_env_file=None)).name == "qwen3"


@pytest.mark.parametrize("engine", ["qwen3", "qwen-tts"])
def test_a_named_engine_is_used_or_fails_with_a_clear_error(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "missing_packages", lambda _packages: ())
    assert factory.choose_engine(Settings(_env_file=None, engine=engine)).name == engine
    monkeypatch.setattr(factory, "missing_packages", lambda _packages: ("torch",))
    with pytest.raises(TtsUnavailable, match=f"TTS_ENGINE={engine} cannot be started: it lacks"):
        factory.choose_engine(Settings(_env_file=None, engine=engine))
