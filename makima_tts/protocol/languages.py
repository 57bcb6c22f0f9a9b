"""The languages a client may ask for, by English name or BCP-47 tag.

In: what a client wrote. Out: an English name from :data:`LANGUAGES`, or :data:`AUTO`; and its tag. Does
not know: which of them an engine speaks.
"""

AUTO = "Auto"

# Qwen3-TTS's ten languages, keyed by primary language subtag (RFC 5646).
_BY_SUBTAG = {
    "zh": "Chinese",
    "en": "English",
    "fr": "French",
    "de": "German",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "pt": "Portuguese",
    "ru": "Russian",
    "es": "Spanish",
}
LANGUAGES: tuple[str, ...] = tuple(sorted(_BY_SUBTAG.values()))
_TAGS = {name: tag for tag, name in _BY_SUBTAG.items()}
_BY_NAME = {name.lower(): name for name in (*LANGUAGES, AUTO)}


def language_name(wanted: str) -> str | None:
    """``"english"``, ``"en"``, ``"en-GB"`` → ``"English"``; any case; ``None`` if it is none of ours."""
    key = wanted.strip().lower()
    return _BY_NAME.get(key) or _BY_SUBTAG.get(key.replace("_", "-").split("-")[0])


def language_tag(name: str) -> str:
    """``"English"`` → ``"en"``, for clients that speak in tags. ``name`` is one of :data:`LANGUAGES`."""
    return _TAGS[name]
