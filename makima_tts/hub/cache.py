"""Where checkpoints lie on this machine.

In: a model's id or folder, a revision. Out: the folder of a whole checkpoint, or None. Does not know: the
network, what is in the files. Asking is cheap, and imports neither torch nor the hub's client.

The cache is that of every program of Hugging Face's, laid out as
https://huggingface.co/docs/huggingface_hub/guides/manage-cache says: files by their digest, and for each
commit a folder of links to them.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from makima_tts.model.checkpoint.config import (
    CODEC_CONFIG,
    CODEC_WEIGHTS,
    GENERATION_CONFIG,
    MODEL_CONFIG,
    MODEL_INDEX,
    MODEL_WEIGHTS,
)

MAIN = "main"

_TEXT_FILES = (
    MODEL_CONFIG,
    GENERATION_CONFIG,
    CODEC_CONFIG,
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model's part of the cache, whether it is there or not."""

    model_id: str

    @property
    def _name(self) -> str:
        return f"models--{self.model_id.replace('/', '--')}"

    def blob(self, digest: str) -> Path:
        """A file's content, which commits share."""
        return hub_cache() / self._name / "blobs" / digest

    def lock(self, digest: str) -> Path:
        """The one that the hub's own client takes while it fetches that content."""
        return hub_cache() / ".locks" / self._name / f"{digest}.lock"

    def snapshot(self, commit: str) -> Path:
        return hub_cache() / self._name / "snapshots" / commit

    def reference(self, revision: str | None) -> Path:
        """The file that says which commit a branch or tag was when it was last asked for."""
        return hub_cache() / self._name / "refs" / (revision or MAIN)

    def commit(self, revision: str | None) -> str | None:
        """None when it is not known without asking the hub."""
        if revision is not None and _COMMIT.fullmatch(revision):
            return revision
        try:
            commit = self.reference(revision).read_text().strip()
        except (OSError, ValueError):
            return None
        return commit if _COMMIT.fullmatch(commit) else None


def find_on_disk(model_id: str, revision: str | None) -> Path | None:
    """A folder with a config.json as it is, or a snapshot in the cache if every file of it has arrived."""
    if is_folder(model_id):
        return Path(model_id)
    model = CachedModel(model_id)
    commit = model.commit(revision)
    if commit is None:
        return None
    folder = model.snapshot(commit)
    return folder if _is_whole(folder) else None


def is_folder(model_id: str) -> bool:
    """Whether it names a checkpoint's folder, and no model of the hub's."""
    return (Path(model_id) / MODEL_CONFIG).is_file()


def lacking(names: Iterable[str]) -> list[str]:
    """The files that a checkpoint must have and that are not among these."""
    there = set(names)
    weights = MODEL_INDEX if MODEL_INDEX in there else MODEL_WEIGHTS
    return [name for name in (*_TEXT_FILES, weights, CODEC_WEIGHTS) if name not in there]


def hub_cache() -> Path:
    """As the hub's client finds it, from HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return _expanded(os.environ[name])
    if os.environ.get("HF_HOME"):
        return _expanded(os.environ["HF_HOME"]) / "hub"
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def _expanded(path: str) -> Path:
    return Path(os.path.expandvars(path)).expanduser()


def _is_whole(folder: Path) -> bool:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if lacking(names):
        return False
    weights = {CODEC_WEIGHTS, *_weights_of(folder)}
    return weights <= names and all(_ends_where_it_says(folder / name) for name in weights)


def _weights_of(folder: Path) -> set[str]:
    if (folder / MODEL_WEIGHTS).exists():
        return {MODEL_WEIGHTS}
    try:
        return set(json.loads((folder / MODEL_INDEX).read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {MODEL_WEIGHTS}


def _ends_where_it_says(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says: 8 bytes of length, JSON, the tensors."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        tensors = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return path.stat().st_size == 8 + length + max(tensors, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError, OverflowError):
        return False
