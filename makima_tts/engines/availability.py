"""What an engine still lacks on this machine, in words. It looks for packages and files, and imports none."""

from importlib.util import find_spec

from makima_tts.hub.cache import find_on_disk

QWEN3_PACKAGES = ("torch", "safetensors", "tokenizers", "huggingface_hub")
QWEN3_REMEDY = "pip install 'makima-tts[qwen3]'"
OFFICIAL_PACKAGES = ("torch", "transformers", "qwen_tts")
OFFICIAL_REMEDY = "make venv-qwen-tts, and start .venvs/qwen-tts/bin/makima-tts"


def missing_packages(packages: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are not installed."""
    return tuple(name for name in packages if find_spec(name) is None)


def qwen3_lacks(model_id: str, revision: str | None) -> tuple[str, ...]:
    """Empty when the engine can be started without a download."""
    lacks = []
    if missing := missing_packages(QWEN3_PACKAGES):
        lacks.append(f"the packages {', '.join(missing)} ({QWEN3_REMEDY})")
    if find_on_disk(model_id, revision) is None:
        lacks.append(f"the checkpoint {model_id} (makima-tts download)")
    return tuple(lacks)
