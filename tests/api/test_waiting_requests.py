"""Requests over HTTP beyond the engine's capacity wait: in order, for a bounded time, in a bounded line."""

import asyncio

import httpx
import pytest
from openai import AsyncOpenAI

from makima_tts.errors import RateLimited
from makima_tts.speech import UtteranceRequest
from tests.api.conftest import Run
from tests.api.service import RunningService
from tests.engines.directed import DirectedEngine

ROUTES = [("/api/v1/tts", "text"), ("/v1/audio/speech", "input")]


def post(http: httpx.AsyncClient, route: tuple[str, str], text: str) -> "asyncio.Task[httpx.Response]":
    path, field = route
    return asyncio.create_task(http.post(path, json={field: text}))


async def until_waiting(service: RunningService, wanted: int) -> None:
    await service.until(lambda: service.service.line.waiting == wanted)


async def test_forty_requests_at_once_succeed_where_eight_are_spoken_at_a_time(run: Run) -> None:
    """With the retries of OpenAI's client as they are; a second of speech takes 20 ms."""
    five_seconds = "{slow 0.02}" + "x" * 84
    async with run(DirectedEngine(capacity=8)) as service:
        await service.until_ready()
        async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="any") as client:
            speak = client.audio.speech.create
            answers = await asyncio.gather(
                *(
                    speak(model="any", voice="alloy", input=five_seconds, response_format="pcm")
                    for _ in range(40)
                )
            )
        sizes = {len(answer.content) for answer in answers}
    assert sizes == {63 * 1920 * 2}


@pytest.mark.parametrize("route", ROUTES, ids=["native", "openai"])
async def test_a_request_that_leaves_frees_its_place(run: Run, route: tuple[str, str]) -> None:
    async with run(DirectedEngine(capacity=1)) as service:
        await service.until_ready()
        async with service.http() as http:
            first = post(http, route, "{endless}")
            await service.until_active(1)
            second, third = post(http, route, "{endless}"), post(http, route, "Twelve chars")
            await until_waiting(service, 2)
            second.cancel()
            await until_waiting(service, 1)
            first.cancel()
            assert (await third).status_code == 200
        await service.until_idle()


@pytest.mark.parametrize("route", ROUTES, ids=["native", "openai"])
async def test_a_request_waits_for_a_bounded_time_in_a_bounded_line(run: Run, route: tuple[str, str]) -> None:
    settings = {"max_waiting_requests": 1, "utterance_timeout_s": 0.3}
    async with run(DirectedEngine(capacity=1), **settings) as service:
        await service.until_ready()
        async with service.client() as speaker, service.http() as http:
            await speaker.send("speak", text="{endless}")
            await service.until_active(1)
            waits = post(http, route, "Hello.")
            await until_waiting(service, 1)
            finds_no_place = await post(http, route, "Hello.")
            for refusal in (finds_no_place, await waits):
                assert refusal.status_code == 429
                assert refusal.json()["error"]["code"] == "RATE_LIMITED"
            assert (
                int(finds_no_place.headers["retry-after"]) >= int((await waits).headers["retry-after"]) >= 1
            )


async def test_a_websocket_is_refused_at_once(run: Run) -> None:
    async with run(DirectedEngine(capacity=1)) as service:
        await service.until_ready()
        async with service.client() as speaker, service.started() as refused:
            await speaker.send("speak", text="{endless}")
            await service.until_active(1)
            await refused.send("speak", text="Hello.")
            error, _ = await refused.until("error")
            assert error["code"] == "RATE_LIMITED"


async def test_requests_are_served_in_order_and_the_time_to_retry_follows_the_load(run: Run) -> None:
    async with run(DirectedEngine(capacity=1), max_waiting_requests=3) as service:
        await service.until_ready()
        line, served = service.service.line, list[int]()
        engine = service.service.engine
        stream = engine.open(UtteranceRequest("speaking"))

        async def take_turn(number: int) -> None:
            following = await line.open(UtteranceRequest(str(number)))
            served.append(number)
            following.cancel()

        turns = [asyncio.create_task(take_turn(number)) for number in range(3)]
        await until_waiting(service, 3)
        with pytest.raises(RateLimited) as refusal:
            await line.open(UtteranceRequest("one too many"))
        assert refusal.value.retry_after_s == 4.0  # as long as nothing is known, a second for each turn
        stream.cancel()
        await asyncio.gather(*turns)
        assert served == [0, 1, 2]
