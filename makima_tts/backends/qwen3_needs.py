"""What Qwen3-TTS still lacks here, if anything.

In: the model's id or folder. Out: reasons, in words. Does not know: how it is installed or run. Looks, and
imports nothing: asking is cheap.
"""

import os
from importlib.util import find_spec
from pathlib import Path

ENGINE_TO_COME = "its engine, which arrives with a later release of makima-tts"
_PACKAGES = ("torch", "safetensors", "tokenizers", "huggingface_hub")


def qwen3_needs(model_id: str) -> list[str]:
    """Empty when the engine can be started without a download."""
    needs = []
    if find_spec("makima_tts.engine") is None:
        needs.append(ENGINE_TO_COME)
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        needs.append(f"the packages {', '.join(missing)} (pip install 'makima-tts[qwen3]')")
    if not checkpoint_on_disk(model_id):
        needs.append(f"the checkpoint {model_id}")
    return needs


def checkpoint_on_disk(model_id: str) -> bool:
    """A folder with a config.json, or a snapshot in the Hugging Face cache (HF_HUB_CACHE, HF_HOME)."""
    if (Path(model_id) / "config.json").is_file():
        return True
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    snapshots = cache / f"models--{model_id.replace('/', '--')}" / "snapshots"
    return any(snapshots.glob("*/config.json"))
