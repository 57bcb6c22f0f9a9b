"""All settings.

In: the environment and ``.env``. Out: one frozen Settings. Does not know: what the values are used for.
"""

import os
from collections.abc import Callable
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from makima_tts.engines.qwen3 import AdmissionRule
from makima_tts.model import CpuPrecision, Precision
from makima_tts.origins import ANY, normalized
from makima_tts.protocol.messages import TextCleaning
from makima_tts.voices.library import VoiceName

PREFIX = "TTS_"
ENV_FILE = Path(".env")

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


OpenAIName = Literal[
    "alloy",
    "ash",
    "ballad",
    "cedar",
    "coral",
    "echo",
    "fable",
    "marin",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
]


class Settings(BaseSettings):
    """Read from ``TTS_*`` variables, then from ``.env``. Unknown ``TTS_*`` names are an error."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=ENV_FILE, frozen=True, extra="ignore")

    engine: Literal["auto", "preview", "qwen3", "qwen-tts", "scripted"] = Field(
        "auto", description="Which engine speaks. auto: qwen3 if it is installed and on disk, else preview"
    )
    model_id: str = Field(
        "Qwen/Qwen3-TTS-12Hz-0.6B-Base", description="Qwen3-TTS checkpoint: a Hugging Face id or a folder"
    )
    model_revision: str | None = Field(
        None, description="Its commit, branch or tag at Hugging Face; empty is main, as it was downloaded"
    )
    offline: bool = Field(False, description="Never download a checkpoint: it must be on this machine's disk")
    device: str = Field(
        "auto",
        description="Where Qwen3-TTS runs: auto (a GPU if there is one), cpu, cuda, cuda:N, mps or metal",
    )
    precision: Precision = Field(
        "auto", description="Precision on a GPU. auto: bf16 if the GPU is fast at it, else fp32"
    )
    cpu_precision: CpuPrecision = Field(
        "auto",
        description="Precision on a CPU: fp32, bf16, int8 or int4. auto: int8 with AVX2 and a C compiler, "
        "else as on a GPU",
    )
    max_streams: int = Field(
        0,
        ge=0,
        description="Utterances that Qwen3-TTS speaks at once, a batch row each; more are RATE_LIMITED. "
        "0: as many as a GPU has memory for, up to 256; 8 without one",
    )
    admission: AdmissionRule = Field(
        "realtime",
        description="realtime: utterances that would make others stutter, as measured, are RATE_LIMITED. "
        "slots: TTS_MAX_STREAMS are admitted, however slow",
    )
    voices_dir: Path = Field(Path("voices"), description="Your voices; uploads go here")
    cache_dir: Path = Field(Path(".cache"), description="Encoded voices; may be deleted at any time")
    default_voice: str = Field("makima", description="The voice of clients that request none")
    openai_voices: Annotated[tuple[tuple[OpenAIName, VoiceName], ...], NoDecode] = Field(
        (),
        description="Voices for OpenAI's voice names, as in alloy=anna,nova=makima; all others mean the "
        "default voice",
    )

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8001, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Pages that may use the service from a browser, besides its own and those of localhost: "
        "origins, comma-separated, such as https://a.example or https://*.a.example; * is any",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Proxies whose headers X-Forwarded-For, -Proto, -Host and -Prefix count: addresses or "
        "networks, comma-separated; * is any peer",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much is logged")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: readable on a terminal, JSON elsewhere"
    )

    max_text_chars: Count = Field(1000, description="Longest text of one speak message, code points")
    max_utterance_chars: Count = Field(20_000, description="Longest utterance, code points")
    text_cleaning: TextCleaning = Field(
        "markdown",
        description="markdown: marks, links, code, emoji, reasoning and tool calls are not spoken. "
        "plain, or off: text is spoken as sent",
    )
    max_queued_utterances: Count = Field(32, description="Utterances that one session may have waiting")
    max_connections: Count = Field(1000, description="WebSocket connections at once")
    max_waiting_requests: Count = Field(
        256,
        description="HTTP requests that wait until the engine has room, for TTS_UTTERANCE_TIMEOUT_S at most",
    )
    connects_per_minute: int = Field(
        0, ge=0, description="WebSocket connections that one address may open per minute; 0 is no limit"
    )
    max_ahead_s: Seconds = Field(20.0, description="Audio sent ahead of the listener's clock, at most")
    max_upload_bytes: Count = Field(32 * 1024 * 1024, description="Largest voice upload")

    idle_timeout_s: Seconds = Field(120.0, description="A session without an utterance ends after this")
    max_session_s: Seconds = Field(3600.0, description="Any session ends after this")
    text_stall_s: Seconds = Field(30.0, description="A live text without new text is closed after this")
    text_idle_s: Seconds = Field(
        0.3, description="Sentences of a live text that have ended are spoken after this without text"
    )
    utterance_timeout_s: Seconds = Field(30.0, description="Text waits this long for its first audio")
    load_timeout_s: Seconds = Field(600.0, description="Clients wait this long for the model")
    stall_timeout_s: Seconds = Field(
        30.0, description="A client that takes no bytes is dropped after this, over HTTP after twice this"
    )
    drain_timeout_s: Seconds = Field(20.0, description="On SIGTERM, utterances may finish for this long")

    voice_cache_count: Count = Field(16, description="Encoded voices held in memory, at most")
    voice_cache_bytes: Count = Field(512 * 1024 * 1024, description="Their memory, at most")
    voice_cache_ttl_s: Seconds = Field(3600.0, description="An encoded voice unused for this long is dropped")

    @property
    def openai_speakers(self) -> dict[str, str | None]:
        """All of OpenAI's names; None is the default voice."""
        return dict.fromkeys(get_args(OpenAIName)) | dict(self.openai_voices)

    @field_validator("model_revision")
    @classmethod
    def _none_if_empty(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("openai_voices", mode="before")
    @classmethod
    def _split_pairs(cls, value: object) -> object:
        if isinstance(value, str):
            parts = [part for part in value.split(",") if part.strip()]
            return tuple(tuple(name.strip() for name in part.split("=")) for part in parts)
        return value

    @field_validator("openai_voices")
    @classmethod
    def _each_name_once(cls, pairs: tuple[tuple[OpenAIName, str], ...]) -> tuple[tuple[OpenAIName, str], ...]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("each name may be given one voice")
        return pairs

    @field_validator("allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _normalize_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return _each(normalized, origins)

    @field_validator("trusted_proxies")
    @classmethod
    def _normalize_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return (ANY,) if ANY in networks else _each(_network, networks)


def _each(normalize: Callable[[str], str], entries: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError, which names the entry by number: it may contain a password."""
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(normalize(entry))
        except ValueError as error:
            raise ValueError(f"entry {number} {error}") from None
    return tuple(found)


def _network(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise ValueError("is no address and no network; write one such as 10.0.0.2 or 10.0.0.0/8") from None


class UnknownSettings(Exception):
    """Unknown ``TTS_*`` names; a misspelt limit must not silently be the default."""

    def __init__(self, names: list[str]) -> None:
        known = sorted(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)
        close = [match for name in names for match in get_close_matches(name.upper(), known, n=1, cutoff=0.8)]
        meant = f" Did you mean {', '.join(close)}?" if close else ""
        super().__init__(
            f"Unknown setting{'s'[: len(names) > 1]} {', '.join(names)}.{meant} Known: {', '.join(known)}"
        )
        self.names = names


def explain(error: ValidationError) -> str:
    """For the operator: which variables are invalid, and what each must be."""
    faults = (
        f"{PREFIX}{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
        for fault in error.errors(include_input=False)
    )
    return "Settings cannot be used. " + "; ".join(faults)


def load_settings(**overrides: Any) -> Settings:
    """From ``overrides``, else the environment, else ``.env``.

    Raises UnknownSettings, or pydantic's ValidationError.
    """
    names = {*os.environ, *(dotenv_values(ENV_FILE) if ENV_FILE.is_file() else ())}
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in names if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise UnknownSettings(unknown)
    return Settings(**overrides)
