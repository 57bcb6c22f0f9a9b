"""The languages that a client may request, by English name or BCP-47 tag."""

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


def language_name(requested: str) -> str | None:
    """``"english"``, ``"en"``, ``"en-GB"`` → ``"English"``; any case; None for any other language."""
    key = requested.strip().lower()
    return _BY_NAME.get(key) or _BY_SUBTAG.get(key.replace("_", "-").split("-")[0])


def language_tag(name: str) -> str:
    """``"English"`` → ``"en"``. ``name`` is one of :data:`LANGUAGES`."""
    return _TAGS[name]
