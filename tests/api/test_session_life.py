"""Who gets in, and how sessions begin, end, and are silenced together."""

import asyncio

import pytest
from websockets.exceptions import InvalidStatus

from tests.api.conftest import Run
from tests.api.service import RunningService
from tests.engines.directed import DirectedEngine
from tests.voices.clips import TRANSCRIPT, good_clip

LONG = "A sentence that goes on {endless} without end."


# Admission


async def test_foreign_pages_are_refused_before_the_upgrade(run: Run) -> None:
    async with run(allowed_origins="https://makima.example") as service:
        own = service.url
        for origin in (
            own,
            "http://localhost:5173",
            "http://127.0.0.1:9",
            "http://[::1]:1",
            "https://makima.example",
        ):
            async with service.client(origin=origin) as client:
                assert (await client.until("ready"))[0]
        for origin in (
            "http://[",
            "https://evil.example",
            "http://localhost.evil.example",
            "null",
            "https://makima.example.net",
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with service.client(origin=origin):
                    pass
            assert refused.value.response.status_code == 403


async def test_a_full_house_turns_away_with_1013(run: Run) -> None:
    async with run(max_connections=1) as service, service.client() as first:
        await first.until("ready")
        async with service.client(subprotocols=["makima.tts.v1"]) as second:
            assert second.socket.subprotocol == "makima.tts.v1"
            assert (await second.until("error"))[0]["code"] == "RATE_LIMITED"
            assert await second.close_code() == 1013


async def test_connecting_too_often_is_turned_away_with_4429(run: Run) -> None:
    async with run(connects_per_minute=2) as service:
        for _ in range(2):
            async with service.client() as client:
                await client.until("ready")
        async with service.client() as third:
            assert (await third.until("error"))[0]["retryAfterMs"] > 0
            assert await third.close_code() == 4429


async def test_no_room_with_the_engine_is_rate_limited(run: Run) -> None:
    async with run(DirectedEngine(capacity=1)) as service:
        async with service.started() as first, service.started() as second:
            await first.send("speak", text=LONG)
            while not isinstance(await first.next(), bytes):
                pass
            await second.send("speak", text="No room for this.")
            error, _ = await second.until("error")
            assert error["code"] == "RATE_LIMITED"
            assert error["retryAfterMs"] > 0


# Loading


async def test_a_page_that_speaks_while_the_model_loads_is_heard(run: Run) -> None:
    gate = asyncio.Event()
    async with run(DirectedEngine(load_gate=gate)) as service:
        async with service.client(subprotocols=["makima.tts.v1"]) as page:
            await page.send("speak", text="Said too early.")
            loading, _ = await page.until("loading")
            assert 0 <= loading["progress"] <= 1
            gate.set()
            ready, _ = await page.until("ready")
            assert ready["engine"] == "scripted"
            await page.until("audio_end")


async def test_a_model_that_cannot_be_loaded_is_told(run: Run) -> None:
    gate = asyncio.Event()
    async with run(DirectedEngine(load_gate=gate, fail_to_load=True)) as service:
        async with service.client() as client:
            gate.set()
            assert (await client.until("error"))[0]["code"] == "TTS_UNAVAILABLE"
            assert await client.close_code() == 1011


async def test_loading_longer_than_the_limit_is_told(run: Run) -> None:
    async with run(DirectedEngine(load_gate=asyncio.Event()), load_timeout_s=0.05) as service:
        async with service.client() as client:
            assert (await client.until("error"))[0]["code"] == "MODEL_LOADING"
            assert await client.close_code() == 1013


# Contracts


async def test_an_interrupt_silences_every_session_of_the_contract(service: RunningService) -> None:
    async with service.started(contractId="c") as one, service.started(contractId="c") as two:
        async with service.started(contractId="d") as stranger:
            for client in (one, two, stranger):
                await client.send("speak", text=LONG)
                while not isinstance(await client.next(), bytes):
                    pass
            await one.send("speak", text="Queued.")
            await one.send("ping", id="queued")
            await one.until("pong")
            async with service.http() as http:
                answer = await http.post("/api/v1/contracts/c/interrupt")
            assert answer.json() == {"interrupted": 3}
            for client, expected in ((one, 2), (two, 1)):
                for _ in range(expected):
                    assert (await client.until("error"))[0]["code"] == "CANCELLED"
            assert isinstance(await stranger.next(), bytes)


async def test_an_interrupt_reaches_a_session_that_waits_for_the_model_and_not_one_that_left(
    run: Run,
) -> None:
    gate = asyncio.Event()
    async with run(DirectedEngine(load_gate=gate)) as service, service.client() as early:
        await early.send("start", contractId="a/b")
        await early.send("speak", text="Queued before ready.")
        async with service.http() as http:
            async with asyncio.timeout(5):
                while (await http.post("/api/v1/contracts/a%2Fb/interrupt")).json() != {"interrupted": 1}:
                    pass
            gate.set()
            assert (await early.until("error"))[0]["code"] == "CANCELLED"
            await early.send("start")
            await early.until("started")
            assert (await http.post("/api/v1/contracts/a%2Fb/interrupt")).json() == {"interrupted": 0}


# Life


async def test_a_draining_service_lets_utterances_finish_and_takes_no_new_ones(
    service: RunningService,
) -> None:
    async with service.started() as client, service.client() as idle:
        await idle.until("ready")
        await client.send("speak", text="Slowly {slow 0.05} to the end of it.")
        while not isinstance(await client.next(), bytes):
            pass
        service.service.begin_drain()
        assert (await idle.until("stopped"))[0]["reason"] == "draining"
        assert await idle.close_code() == 1001
        await client.send("speak", text="Too late.")
        assert (await client.until("error"))[0]["code"] == "TTS_UNAVAILABLE"
        await client.until("complete")
        assert (await client.until("stopped"))[0]["reason"] == "draining"
        assert await client.close_code() == 1001
        async with service.client() as late:
            assert await late.close_code() == 1001
        async with service.http() as http:
            assert (await http.get("/ready")).status_code == 503
            assert (await http.get("/health")).status_code == 200
        await asyncio.wait_for(service.service.drained(), 5)


async def test_an_idle_session_is_closed_with_its_reason(run: Run) -> None:
    async with run(idle_timeout_s=0.1) as service:
        async with service.started() as client:
            assert (await client.until("stopped"))[0]["reason"] == "idle"
            assert await client.close_code() == 4408
        async with service.client() as page:
            assert (await page.until("stopped"))[0]["reason"] == "idle"
            assert await page.close_code() == 1000


async def test_any_interleaving_of_many_clients_leaves_nothing_behind(service: RunningService) -> None:
    async def visit(number: int) -> None:
        async with service.client() as client:
            await client.send("speak", text=LONG if number % 2 else "A short one.")
            if number % 3 == 0:
                await client.until("ready")
            if number % 5 == 0:
                client.socket.transport.abort()
            else:
                await client.send("stop")
                await client.rest()

    await asyncio.gather(*(visit(number) for number in range(40)))
    await service.until_idle()
    await asyncio.wait_for(service.service.drained(), 5)
    assert service.service.engine.health().active == 0


# Voices


async def add_voice(service: RunningService, name: str) -> None:
    form = {"name": name, "transcript": TRANSCRIPT}
    async with service.http() as http:
        added = await http.post("/api/v1/voices", data=form, files={"audio": ("a", good_clip())})
        assert added.status_code == 201


async def test_a_session_whose_voice_is_deleted_is_told_so(service: RunningService) -> None:
    await add_voice(service, "Anna")
    async with service.started(voice="anna") as client, service.http() as http:
        await client.send("speak", text="It is spoken to its end, ", utteranceId="a", final=False)
        await client.send("speak", text="long as it is. ", utteranceId="a", final=False)
        while not isinstance(await client.next(), bytes):
            pass
        assert (await http.delete("/api/v1/voices/anna")).status_code == 204
        await client.send("speak", text="And now.", utteranceId="a", final=True)
        await client.send("speak", text="The next one.", utteranceId="b")
        assert (await client.until("complete", "error"))[0]["utteranceId"] == "a"
        error, _ = await client.until("complete", "error")
        assert (error["utteranceId"], error["code"]) == ("b", "VOICE_NOT_FOUND")
        await client.send("start", voice="anna")
        assert "narrator speaks instead" in (await client.until("started"))[0]["warning"]
        await client.send("speak", text="Another voice.", utteranceId="c")
        assert (await client.until("complete", "error"))[0]["type"] == "complete"


async def test_a_session_speaks_with_what_replaced_its_voice(service: RunningService) -> None:
    await add_voice(service, "Anna")
    async with service.started(voice="anna") as client, service.http() as http:
        await http.delete("/api/v1/voices/anna")
        await add_voice(service, "Anna")
        await client.send("speak", text="Once more.")
        assert (await client.until("complete", "error"))[0]["type"] == "complete"
