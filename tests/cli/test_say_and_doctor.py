"""Where ``say`` finds a server, what it does to files, and that ``doctor`` says what a start would say."""

import re
import socket
from importlib.util import find_spec
from pathlib import Path

import pytest
import soundfile

from tests.cli.conftest import Run
from tests.conftest import Serve
from tests.transport.processes import ServerProcess

NOWHERE = "http://127.0.0.1:9"
needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def frames_of(path: Path) -> int:
    return int(soundfile.info(path).frames)


@pytest.mark.parametrize("engine", ["", "--engine=scripted"], ids=["server", "in process"])
def test_a_failure_leaves_the_file_as_it_was_and_nothing_beside_it(
    engine: str, run: Run, tmp_path: Path, scripted_service: ServerProcess
) -> None:
    spoken = tmp_path / "said" / "speech.wav"
    spoken.parent.mkdir()
    spoken.write_bytes(b"what was said before")
    where = engine or f"--url={scripted_service.url}"
    failed = run("say", "{fail}" if engine else "...", where, "--out", str(spoken))
    assert failed.returncode == 1, failed.stdout
    assert spoken.read_bytes() == b"what was said before"
    assert list(spoken.parent.iterdir()) == [spoken]


def test_a_success_takes_the_place_of_what_was_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "speech.wav").write_bytes(b"what was said before")
    done = run("say", "Hello there.", "--engine", "scripted")
    assert done.returncode == 0, done.stderr
    assert frames_of(tmp_path / "speech.wav") == 9 * 1920
    assert list(tmp_path.glob(".say*")) == []


@pytest.mark.parametrize("engine", ["", "--engine=scripted"], ids=["server", "in process"])
@pytest.mark.parametrize("name", ["a.srt", "a.VTT"])
def test_subtitles_are_written_beside_the_audio(
    name: str, engine: str, run: Run, tmp_path: Path, scripted_service: ServerProcess
) -> None:
    where = engine or f"--url={scripted_service.url}"
    done = run("say", "Hello **there**. And more.", where, "--subtitles", name)
    assert done.returncode == 0, done.stderr
    document = (tmp_path / name).read_text("utf-8")
    assert document.startswith("WEBVTT\n" if name == "a.VTT" else "1\n00:00:00,")
    shown = re.sub(r"<.*?>|.* --> .*|WEBVTT", "", document)
    assert re.findall(r"[A-Za-z]+", shown) == ["Hello", "there", "And", "more"]
    assert "Some times of words are estimates" in done.stderr


@pytest.mark.parametrize("options", [("--subtitles", "a.txt"), ("--subtitles", "a.srt", "--raw")])
def test_subtitles_that_cannot_be_written_are_refused_before_speaking(
    options: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    refused = run("say", "Hello there.", "--engine", "scripted", *options)
    assert refused.returncode == 1
    assert "subtitles" in refused.stderr or ".srt or .vtt" in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", [("--engine", "scripted"), ("--url", NOWHERE)], ids=lambda e: e[0])
@pytest.mark.parametrize("out", ["speech.mp3", "speech", ".wav", "no-such-folder/speech.wav"])
def test_what_is_no_wav_file_is_not_written(
    out: str, engine: tuple[str, str], run: Run, tmp_path: Path
) -> None:
    refused = run("say", "Hello there.", "--out", out, *engine)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("Only a file that ends in .wav")
    assert not (tmp_path / out).exists()


@pytest.mark.process
def test_a_server_may_be_named_by_any_of_its_addresses(
    run: Run, tmp_path: Path, scripted_service: ServerProcess
) -> None:
    place = f"://{scripted_service.host}:{scripted_service.port}"
    for url in (f"http{place}/", f"HTTP{place}/api/v1/speak", f"ws{place}", f"ws{place}/api/v1/speak/"):
        done = run("say", "Hello there.", "--url", url, "--out", f"{len(url)}.wav")
        assert done.returncode == 0, (url, done.stderr)
        assert frames_of(tmp_path / f"{len(url)}.wav") == 9 * 1920


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8001", "localhost:8001", "ftp://localhost", "http://", "http://[::1", "ws://x:y", ""]
)
def test_what_is_no_address_is_refused_in_a_sentence(url: str, run: Run) -> None:
    refused = run("say", "Hello there.", "--url", url)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("That is no address of a server")


@pytest.mark.process
@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("::1", marks=needs_ipv6)])  # noqa: S104
def test_the_configured_server_is_found_wherever_it_listens(
    host: str, run: Run, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind a proxy, which a wildcard would be sent to: it is no address of this machine's loopback."""
    monkeypatch.setenv("http_proxy", NOWHERE)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    done = run("say", "Hello there.", host=host, port=serve(host=host).port)
    assert done.returncode == 0, done.stderr
    assert frames_of(tmp_path / "speech.wav") == 9 * 1920


@pytest.mark.parametrize("host", ["localhost", pytest.param("::1", marks=needs_ipv6)])
def test_doctor_listens_as_the_server_would(host: str, run: Run) -> None:
    done = run("doctor", host=host, port=0)
    assert done.returncode == 0, done.stdout
    assert f"0 on {host} is free" in done.stdout


def test_doctor_says_where_the_checkpoint_lies_or_how_to_get_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "models"))
    assert "makima-tts download fetches it" in run("doctor", port=0).stdout
    assert "TTS_OFFLINE forbids downloading it" in run("doctor", port=0, offline=True).stdout
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert f"mine lies in {folder.name}" in run("doctor", port=0, model_id="mine").stdout


def test_download_says_that_it_may_not(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "models"))
    refused = run("download", offline=True)
    assert refused.returncode == 1
    assert "TTS_OFFLINE forbids downloading" in refused.stderr


@pytest.mark.skipif(find_spec("torch") is None, reason="without torch there is no device")
def test_doctor_names_the_device_and_refuses_one_that_is_not_there(run: Run) -> None:
    assert "cpu in fp32, torch" in run("doctor", port=0, device="cpu", cpu_precision="fp32").stdout
    absent = run("doctor", port=0, device="cuda:99")
    assert "TTS_DEVICE=cuda:99 cannot be used" in absent.stdout


@pytest.mark.skipif(find_spec("torch") is None, reason="without torch there are no kernels")
def test_doctor_says_which_implementation_each_family_has(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    assert "layers torch, linear torch" in run("doctor", port=0, device="cpu", cpu_precision="fp32").stdout
    assert "layers native, linear native" in run("doctor", port=0, device="cpu", cpu_precision="int8").stdout

    import torch

    from makima_tts.model.ops import self_test, table

    monkeypatch.setattr(table, "kernels_lack", lambda _device: None)
    on_a_card = {"port": 0, "device": "cpu", "cpu_precision": "bf16"}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "the first start tests them on this card" in run("doctor", **on_a_card).stdout
    versions = self_test.versions_of(torch.device("cpu"), torch.bfloat16)
    implementations = {**table.triton_ops().implementations, "codec": "torch"}
    self_test._keep(self_test.Verdict(versions=versions, implementations=implementations, times_ms={}))
    assert "sampler triton, codec torch" in run("doctor", **on_a_card).stdout


@pytest.mark.parametrize("settings", [{"port": "abc"}, {"prot": 1}, {"host": "203.0.113.1"}], ids=str)
def test_doctor_says_what_a_start_would_say(
    settings: dict[str, object], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    sentence = run("serve", **{"engine": "scripted", **settings}).stderr.splitlines()[-1]
    found = run("doctor", **settings)
    assert found.returncode == 1
    assert sentence in found.stdout
