"""The hub's cache on this machine.

In: a model's id or folder, a revision. Out: the folder of a complete checkpoint, or None. Does not know: the
network, the files' contents. Look-ups are cheap, and import neither torch nor huggingface_hub.

The layout is https://huggingface.co/docs/huggingface_hub/guides/manage-cache: blobs named by digest, and for
each commit a folder of links to them.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from makima_tts.model.checkpoint.config import (
    CODEC_CONFIG,
    CODEC_WEIGHTS,
    GENERATION_CONFIG,
    MODEL_CONFIG,
    MODEL_INDEX,
    MODEL_WEIGHTS,
)

_TEXT_FILES = (
    MODEL_CONFIG,
    GENERATION_CONFIG,
    CODEC_CONFIG,
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def blob_path(model_id: str, digest: str) -> Path:
    """A file's content, which commits share."""
    return _model_folder(model_id) / "blobs" / digest


def lock_path(model_id: str, digest: str) -> Path:
    """The lock that huggingface_hub also takes while it downloads that content."""
    return hub_cache() / ".locks" / _model_folder(model_id).name / f"{digest}.lock"


def snapshot_path(model_id: str, commit: str) -> Path:
    return _model_folder(model_id) / "snapshots" / commit


def ref_path(model_id: str, revision: str | None) -> Path:
    """The file with the commit of a branch or tag, as of the last download."""
    return _model_folder(model_id) / "refs" / (revision or "main")


def _model_folder(model_id: str) -> Path:
    return hub_cache() / f"models--{model_id.replace('/', '--')}"


def _commit_of(model_id: str, revision: str | None) -> str | None:
    """None when only the hub knows it."""
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    try:
        commit = ref_path(model_id, revision).read_text().strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def find_on_disk(model_id: str, revision: str | None) -> Path | None:
    """A folder with a config.json, unchecked; or a snapshot in the cache if all its files are complete."""
    if is_folder(model_id):
        return Path(model_id)
    commit = _commit_of(model_id, revision)
    if commit is None:
        return None
    folder = snapshot_path(model_id, commit)
    return folder if _is_complete(folder) else None


def is_folder(model_id: str) -> bool:
    return (Path(model_id) / MODEL_CONFIG).is_file()


def missing_files(names: Iterable[str]) -> list[str]:
    """The required files of a checkpoint that are not among ``names``."""
    present = set(names)
    weights = MODEL_INDEX if MODEL_INDEX in present else MODEL_WEIGHTS
    return [name for name in (*_TEXT_FILES, weights, CODEC_WEIGHTS) if name not in present]


def hub_cache() -> Path:
    """As huggingface_hub finds it, from HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return _expanded(os.environ[name])
    if os.environ.get("HF_HOME"):
        return _expanded(os.environ["HF_HOME"]) / "hub"
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def _expanded(path: str) -> Path:
    return Path(os.path.expandvars(path)).expanduser()


def _is_complete(folder: Path) -> bool:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if missing_files(names):
        return False
    weights = {CODEC_WEIGHTS, *_weights_of(folder)}
    return weights <= names and all(_has_declared_length(folder / name) for name in weights)


def _weights_of(folder: Path) -> set[str]:
    if (folder / MODEL_WEIGHTS).exists():
        return {MODEL_WEIGHTS}
    try:
        return set(json.loads((folder / MODEL_INDEX).read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {MODEL_WEIGHTS}


def _has_declared_length(path: Path) -> bool:
    """Whether a safetensors file has the length that its header declares (8 bytes, JSON, the tensors)."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        tensors = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return path.stat().st_size == 8 + length + max(tensors, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError, OverflowError):
        return False
