"""The measurements, in small, of the real service."""

import asyncio
import json
from pathlib import Path

import pytest

from bench import load as load_bench
from bench.listeners import listener_pool, open_load
from bench.service import connections, overhead
from tests.transport.processes import ServerProcess

pytestmark = pytest.mark.process


def url_of(service: ServerProcess) -> str:
    return f"ws://{service.host}:{service.port}/api/v1/speak"


async def test_listeners_hear_everything_and_are_timed(scripted_service: ServerProcess) -> None:
    url = url_of(scripted_service)
    heard, took_s = await open_load(url, [(0.0, "short"), (0.01, "long")])
    assert [each.text for each in heard] == ["short", "long"]
    for each in heard:
        assert each.error is None
        assert each.ttfa_s is not None
        assert 0 < each.ttfa_s < took_s
    assert heard[1].audio_s > heard[0].audio_s > 0


async def test_a_listener_that_cannot_connect_counts_as_an_error() -> None:
    heard, _ = await open_load("ws://127.0.0.1:9/", [(0.0, "short")])
    assert heard[0].error == "ServiceUnreachable"


def test_a_pool_of_processes_brings_all_listeners(scripted_service: ServerProcess) -> None:
    url, texts = url_of(scripted_service), {"short": "Yes."}
    with listener_pool(2) as pool:
        arrived = pool.open_load(url, texts, rate_hz=20.0, duration_s=1.0)
        stayed = pool.closed_load(url, texts, 3, 0.1, spread_s=0.0)
    assert len(arrived) > 5
    assert len(stayed) >= 3
    assert {each.error for each in (*arrived, *stayed)} == {None}


def test_the_overhead_is_measured_from_making_to_arrival() -> None:
    found = overhead(2, chunk_frames=1, seconds=0.5)
    assert found["chunks"] > 0
    assert 0 < found["p50 ms"] <= found["p99 ms"] <= found["max ms"]


def test_idle_connections_are_counted() -> None:
    found = connections(8)
    assert found["idle connections"] == 8
    assert found["connections per second"] > 0


async def test_the_number_of_live_streams_is_found(scripted_service: ServerProcess, tmp_path: Path) -> None:
    written, picture = tmp_path / "found.json", tmp_path / "load.png"
    asked = f"--url {url_of(scripted_service)} --find --most 2 --runs 1 --duration 0.1"
    await asyncio.to_thread(load_bench.main, [*asked.split(), "--json", str(written), "--plot", str(picture)])
    found = json.loads(written.read_text())
    assert found["live streams"] == 2
    assert [row["streams"] for row in found["rows"]] == [1, 2]
    assert picture.read_bytes().startswith(b"\x89PNG")
