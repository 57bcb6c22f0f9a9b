"""Reads the gauges of a service from another process."""

import asyncio
import re
import urllib.request

from tests.transport.processes import eventually

PATIENCE_S = 10.0


def gauge(host: str, name: str) -> float:
    """``name`` without makima_tts_; 0 if nothing was counted yet."""
    with urllib.request.urlopen(f"http://{host}/metrics", timeout=PATIENCE_S) as answer:
        found = re.search(rf"^makima_tts_{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def falls_silent(host: str) -> bool:
    """Whether no utterance is active any more, within a time limit."""
    return eventually(lambda: gauge(host, "utterances_speaking") == 0, within_s=PATIENCE_S)


async def falls_silent_meanwhile(host: str) -> bool:
    return await asyncio.to_thread(falls_silent, host)
