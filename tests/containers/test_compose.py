"""docker-compose.yml and its CPU override."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from makima_tts.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
RESET = object()


class ComposeLoader(yaml.SafeLoader):
    """YAML with Compose's ``!reset``, which removes a value of an earlier file."""


ComposeLoader.add_constructor("!reset", lambda loader, node: RESET)


def service(name: str) -> dict[str, Any]:
    """The service of one compose file."""
    read = yaml.load((ROOT / name).read_text(), Loader=ComposeLoader)  # noqa: S506 (a SafeLoader)
    found: dict[str, Any] = read["services"]["tts"]
    return found


@pytest.fixture
def gpu() -> dict[str, Any]:
    return service("docker-compose.yml")


@pytest.fixture
def cpu() -> dict[str, Any]:
    return service("docker-compose.cpu.yml")


def seconds(duration: str) -> float:
    """``20m`` → 1200."""
    return float(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def test_the_gpu_host_runs_qwen3_on_a_reserved_device(gpu: dict[str, Any]) -> None:
    assert gpu["environment"]["TTS_ENGINE"] == "qwen3"
    assert gpu["build"]["target"] == "cuda"
    assert gpu["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]


def test_the_cpu_override_removes_the_device(cpu: dict[str, Any]) -> None:
    assert cpu["environment"]["TTS_ENGINE"] == "auto"
    assert cpu["build"]["target"] == "cpu"
    assert cpu["deploy"]["resources"]["reservations"]["devices"] is RESET


def test_the_container_runs_with_least_privileges(gpu: dict[str, Any]) -> None:
    assert gpu["read_only"] is True
    assert gpu["cap_drop"] == ["ALL"]
    assert gpu["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in gpu
    # without a size, tmpfs may use half of the host's memory
    assert gpu["tmpfs"] == ["/tmp:size=256m"]  # noqa: S108


def test_the_port_is_published_on_localhost_only(gpu: dict[str, Any]) -> None:
    assert gpu["ports"] == ["127.0.0.1:8001:8001"]


def test_every_written_folder_is_a_named_volume(gpu: dict[str, Any]) -> None:
    volumes = dict(volume.split(":") for volume in gpu["volumes"])
    named = yaml.load((ROOT / "docker-compose.yml").read_text(), Loader=ComposeLoader)["volumes"]  # noqa: S506
    assert set(volumes) == set(named)
    for setting in ("TTS_VOICES_DIR", "TTS_CACHE_DIR", "HF_HOME"):
        assert gpu["environment"][setting] in volumes.values()


def test_the_stop_timeout_is_longer_than_the_drain_timeout(gpu: dict[str, Any]) -> None:
    assert seconds(gpu["stop_grace_period"]) > Settings.model_fields["drain_timeout_s"].default


def test_the_health_check_uses_readiness_and_allows_a_first_download(gpu: dict[str, Any]) -> None:
    check = gpu["healthcheck"]
    assert check["test"] == ["CMD", "python", "/opt/healthcheck.py"]
    assert seconds(check["start_period"]) >= Settings.model_fields["load_timeout_s"].default
    assert seconds(check["interval"]) <= 30


def test_both_restart_after_a_crash(gpu: dict[str, Any], cpu: dict[str, Any]) -> None:
    assert gpu["restart"] == "unless-stopped"
    assert cpu["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.cpu.yml"])
def test_every_setting_in_the_compose_file_exists(name: str) -> None:
    known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    named = {setting for setting in service(name)["environment"] if setting.startswith(PREFIX)}
    assert named <= known


def test_every_setting_can_be_set(gpu: dict[str, Any]) -> None:
    assert gpu["env_file"] == [{"path": ".env", "required": False}]
