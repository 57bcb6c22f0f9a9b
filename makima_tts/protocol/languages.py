"""The languages of Qwen3-TTS, by every name that clients use for them.

In: a name or a tag. Out: the English name, the primary tag. Does not know: which languages an engine speaks.
"""

import re

AUTO = "Auto"

# By primary language subtag (RFC 5646). The English name comes first; then the codes of ISO 639-2 and -3, the
# language's own name, and codes that are no codes of any language but are often sent for this one.
_NAMES: dict[str, tuple[str, ...]] = {
    "zh": ("Chinese", "zho", "chi", "cmn", "mandarin", "中文", "汉语", "普通话", "cn"),
    "en": ("English", "eng", "us", "gb"),
    "fr": ("French", "fra", "fre", "français", "francais"),
    "de": ("German", "deu", "ger", "deutsch"),
    "it": ("Italian", "ita", "italiano"),
    "ja": ("Japanese", "jpn", "日本語", "jp"),
    "ko": ("Korean", "kor", "한국어", "kr"),
    "pt": ("Portuguese", "por", "português", "portugues"),
    "ru": ("Russian", "rus", "русский"),
    "es": ("Spanish", "spa", "español", "espanol", "castellano"),
}
LANGUAGES: tuple[str, ...] = tuple(sorted(english for english, *_ in _NAMES.values()))
_TAGS = {names[0]: tag for tag, names in _NAMES.items()}
_BY_NAME = {name.lower(): names[0] for tag, names in _NAMES.items() for name in (tag, *names)}
# What follows a language's name or subtag: a script, a region, an encoding.
_FURTHER = re.compile(r"[-_ .(]")


def language_name(requested: str) -> str | None:
    """``"english"``, ``"en"``, ``"eng"``, ``"en-GB"`` → ``"English"``; any case; None for any other."""
    key = requested.strip().lower()
    return AUTO if key == AUTO.lower() else _BY_NAME.get(_FURTHER.split(key, maxsplit=1)[0])


def language_tag(name: str) -> str:
    """``"English"`` → ``"en"``. ``name`` is one of :data:`LANGUAGES`."""
    return _TAGS[name]
