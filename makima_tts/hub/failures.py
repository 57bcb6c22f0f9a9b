"""Why a download failed, in words.

In: what the hub's client and the disk raise. Out: TtsUnavailable. Does not know: what was downloaded.

None of their own words are passed on: they hold addresses, which may be signed, and paths. Nor is the
failure kept as the cause, but for its kind.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from makima_tts.errors import TtsError, TtsUnavailable

_GATED = (
    "Hugging Face gives that model only to those who accepted its terms: accept them on the model's page, "
    "and log in here (`hf auth login`) or set HF_TOKEN."
)
_NO_REVISION = "Hugging Face has that model, but not that revision of it; check TTS_MODEL_REVISION."
_NO_MODEL = (
    "Hugging Face knows no model of that name; or it is private, and wants a login (`hf auth login`) or "
    "HF_TOKEN. Check TTS_MODEL_ID."
)
_NO_NAME = "TTS_MODEL_ID is neither a folder with a config.json nor a name such as owner/model."
_OFFLINE = (
    "The checkpoint is not on this machine's disk, at least not all of it, and HF_HUB_OFFLINE forbids "
    "downloading. Unset it, or set TTS_MODEL_ID to a folder with the checkpoint."
)
_REFUSED = (
    "Hugging Face refuses the login that was sent; log in again (`hf auth login`), or set HF_TOKEN to a "
    "token that may read the model."
)
_NO_ROOM = (
    "The disk is full. What arrived is kept: make room and download again, or set HF_HOME to a folder on "
    "another disk."
)
_NOT_WRITABLE = "The folder for models cannot be written to ({kind}); set HF_HOME to one that can."
_BUSY = "Hugging Face answers too many requests; wait some minutes and download again. What arrived is kept."
_BROKEN = "Hugging Face has trouble (HTTP {status}); download again later. What arrived is kept."
_UNREACHABLE = (
    "The Hugging Face hub cannot be reached, or the connection broke off ({kind}). Check the network, a "
    "proxy, HF_ENDPOINT, and download again: what arrived is kept."
)
NO_HUB = "What answers instead of the Hugging Face hub does not speak as one; check HF_ENDPOINT."


@contextmanager
def in_words() -> Iterator[None]:
    """Raises TtsUnavailable for whatever the hub's client or the disk raises; lets all else pass."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    # Which HTTP client it has differs with its version; its own error is one of that client's.
    transport = tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
    failures: tuple[type[Exception], ...] = (*transport, OSError, ValueError)
    try:
        yield
    except TtsError:
        raise
    except failures as error:
        raise TtsUnavailable(_sentence(error)) from None


def _sentence(error: Exception) -> str:
    from huggingface_hub import errors  # noqa: PLC0415

    # A gated model's error is one of a model that is not there, and both are of HTTP: the first that fits.
    by_kind = {
        errors.GatedRepoError: _GATED,
        errors.RevisionNotFoundError: _NO_REVISION,
        errors.RepositoryNotFoundError: _NO_MODEL,
        errors.HFValidationError: _NO_NAME,
        errors.OfflineModeIsEnabled: _OFFLINE,
    }
    for kind, words in by_kind.items():
        if isinstance(error, kind):
            return words
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(error.response.status_code)
    return _of_disk_or_network(error)


def _refusal(status: int) -> str:
    match status:
        case 401 | 403:
            return _REFUSED
        case 429:
            return _BUSY
        case _:
            return _BROKEN.format(status=status)


def _of_disk_or_network(error: Exception) -> str:
    kind = type(error).__name__
    if isinstance(error, ValueError):
        return NO_HUB
    # The HTTP client wraps what its sockets raise: a number is the disk's.
    number = error.errno if isinstance(error, OSError) else None
    if number is None or isinstance(error, ConnectionError | TimeoutError):
        return _UNREACHABLE.format(kind=kind)
    return _NO_ROOM if number in {errno.ENOSPC, errno.EDQUOT} else _NOT_WRITABLE.format(kind=kind)
