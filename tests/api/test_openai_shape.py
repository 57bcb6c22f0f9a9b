"""What is the same on every path under /v1: models, failures, documentation."""

import pytest

from tests.api.service import RunningService
from tests.api.test_openai_speech import failure


async def test_clients_find_the_model_that_they_look_for(service: RunningService) -> None:
    names = ["test tone", "tts-1", "tts-1-hd", "gpt-4o-mini-tts"]
    async with service.http() as http:
        models = (await http.get("/v1/models")).json()
        assert models["object"] == "list"
        assert [model["id"] for model in models["data"]] == names
        for model in models["data"]:
            assert model.keys() == {"id", "object", "created", "owned_by"}
            assert (await http.get(f"/v1/models/{model['id']}")).json() == model
        audio_models = (await http.get("/v1/audio/models")).json()
        assert audio_models == {"models": [{"id": name, "name": name} for name in names]}
        missing = await http.get("/v1/models/nobody/nothing")
        assert failure(missing) == (404, "invalid_request_error", "model", "model_not_found")


async def test_every_failure_under_v1_has_openais_shape(service: RunningService) -> None:
    ours = "invalid_request_error"
    foreign = {"origin": "https://evil.example"}
    async with service.http() as http:
        assert failure(await http.get("/v1/nowhere")) == (404, ours, None, "NOT_FOUND")
        assert failure(await http.get("/v1")) == (404, ours, None, "NOT_FOUND")
        assert failure(await http.put("/v1/models")) == (405, ours, None, "METHOD_NOT_ALLOWED")
        large = await http.post("/v1/audio/speech", json={"input": "a" * 300_000})
        assert failure(large) == (413, ours, None, "PAYLOAD_TOO_LARGE")
        for path in ("/v1/audio/speech", "/v1/audio/voices"):
            answer = await http.post(path, headers=foreign)
            assert failure(answer) == (403, "permission_error", None, "FORBIDDEN")
        own = (await http.get("/v10")).json()
        assert own["error"].keys() == {"code", "message"}


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/v1/audio/speech", None, b'{"input": "a"}'),
        ("/v1/audio/speech", "application/x-www-form-urlencoded", b'{"input": "a"}'),
        ("/v1/audio/speech", "application/json", b'{"input": "\xe9"}'),
        ("/v1/audio/speech", "application/json", b'{"input": ' + 40_000 * b"[" + 40_000 * b"]" + b"}"),
        ("/v1/audio/speech", "application/json", b'{"input": "a", "seed": ' + 9_999 * b"9" + b"}"),
        ("/v1/audio/voices", "multipart/form-data", b"a"),
        ("/v1/audio/voices", "multipart/form-data; boundary=x", b"a"),
    ],
)
async def test_who_sends_a_body_that_cannot_be_read_is_told_what_to_send(
    service: RunningService, path: str, content_type: str | None, body: bytes
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    async with service.http() as http:
        answer = await http.post(path, content=body, headers=headers)
    assert failure(answer) == (400, "invalid_request_error", None, "INVALID_MESSAGE")
    assert "Content-Type: " in answer.json()["error"]["message"]


async def test_openapi_documents_the_shape_that_is_answered(service: RunningService) -> None:
    async with service.http() as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    operations = [
        (path, operation)
        for path, operations in paths.items()
        for operation in operations.values()
        if path.startswith("/v1/")
    ]
    assert len(operations) == 7
    for _, operation in operations:
        for status, answer in operation["responses"].items():
            if status != "200":
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/OpenAIErrorBody"}
    spoken = dict(operations)["/v1/audio/speech"]["responses"]
    assert {"audio/mpeg", "audio/ogg; codecs=opus", "text/event-stream"} <= spoken["200"]["content"].keys()
    assert {"400", "404", "408", "413", "429", "500", "503"} <= spoken.keys()
