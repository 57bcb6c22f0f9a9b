"""The Dockerfile, checked without building it."""

import re
import subprocess
import sysconfig
from pathlib import Path

from tests.containers.dockerfile import ROOT, TEXT, arguments, copied, environment


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    found = subprocess.run(
        [hadolint, "--failure-threshold", "style", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stdout, found.returncode) == ("", 0)


def test_there_is_an_image_for_cpu_and_one_for_cuda_and_cpu_is_the_default() -> None:
    stages = [stage.split(" AS ") for stage in arguments("FROM")]
    assert ["runtime", "cuda"] in stages
    assert stages[-1] == ["runtime", "cpu"]


def test_the_base_is_pinned_to_a_release() -> None:
    bases = {stage.split(" AS ")[0] for stage in arguments("FROM") if ":" in stage}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases.pop())


def test_the_process_is_not_root_and_has_group_0() -> None:
    assert arguments("USER") == ["10001:0", "0", "10001:0"]  # the second installs a compiler


def test_the_process_receives_the_stop_signal() -> None:
    assert arguments("STOPSIGNAL") == ["SIGTERM"]
    assert arguments("ENTRYPOINT") == ['["makima-tts"]']


def test_written_folders_are_outside_the_read_only_root() -> None:
    assert arguments("VOLUME") == ['["/cache", "/models", "/voices"]']
    for setting, folder in {
        "HOME": "/cache",
        "HF_HOME": "/models",
        "TTS_VOICES_DIR": "/voices",
        "TTS_CACHE_DIR": "/cache",
    }.items():
        assert environment()[setting] == folder


def test_every_run_is_a_script_that_the_tests_run_too() -> None:
    scripts = {re.search(r"container-\w+\.sh", run) for run in arguments("RUN")}
    assert {script and script[0] for script in scripts} == {
        "container-build.sh",
        "container-folders.sh",
        "container-compiler.sh",
    }


def test_nothing_that_looks_like_a_secret_is_in_the_image() -> None:
    assert not re.search(r"(?i)token|password|secret|api_?key", TEXT)


def test_the_build_context_holds_the_copied_files_and_nothing_private() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in lines
    allowed = {line[1:].split("/")[0] for line in lines if line.startswith("!")}
    assert {source.split("/")[0] for source in copied()} == allowed
