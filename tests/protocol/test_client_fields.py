"""What clients put into fields: laws over every field of every request model of every dialect."""

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest
from fastapi.params import Form
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError

from makima_tts.api.omni.dialect import SessionConfig
from makima_tts.api.openai.routes import SpeechRequest
from makima_tts.engines import ScriptedEngine
from makima_tts.factory import build_app, build_service
from makima_tts.protocol import LANGUAGES, Speak, Start, language_name, language_tag
from makima_tts.protocol.fields import ClientFields
from makima_tts.protocol.messages import Seed
from makima_tts.settings import Settings

REQUIRED = {"text": "Hi.", "input": "Hi.", "utteranceId": "a", "id": "anna", "interrupted": 1}
NUMBERS = (-1, 0, 1, 2, 1.0, 0.5, 1.25, 8000, 24000.0, 2**63 - 1, 2**63, 10**19)


def models_of(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in model.__subclasses__():
        if child.__module__.startswith("makima_tts"):
            yield child
        yield from models_of(child)


MODELS = sorted(set(models_of(ClientFields)), key=lambda model: f"{model.__module__}.{model.__name__}")


def fields_of(model: type[BaseModel]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each optional field, by each name that it may be sent under, with the kinds of its values."""
    schema = schema_of(model)
    for name, field in model.model_fields.items():
        alias = field.alias or name
        if alias not in (*schema.get("required", ()), *getattr(model, "as_sent", ())):
            kinds = schema["properties"][alias].get("anyOf", [schema["properties"][alias]])
            yield from ((sent, kinds) for sent in {name, alias})


@cache
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def outcome(form: type[BaseModel], /, **fields: Any) -> object:
    """What the model makes of these fields, or how it refuses them."""
    schema = schema_of(form)
    constants = {name: schema["properties"][name].get("const") for name in schema.get("required", ())}
    needed = {name: constant or REQUIRED[name] for name, constant in constants.items()}
    try:
        return form.model_validate({**needed, **fields})
    except ValidationError as error:
        return [(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors(include_input=False)]


def test_every_dialect_has_its_models_among_these() -> None:
    assert {Start, Speak, SpeechRequest, SessionConfig} <= set(MODELS)
    assert all(isinstance(outcome(model), model) for model in MODELS)


def test_every_json_body_of_every_route_is_one_of_these_models(settings: Settings) -> None:
    app = build_app(settings, build_service(settings, ScriptedEngine()))
    routers = [getattr(route, "original_router", app) for route in app.routes]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    bodies = [body.field_info for route in routes for body in route.dependant.body_params]
    json_models = {body.annotation for body in bodies if not isinstance(body, Form)}
    assert json_models
    assert json_models <= set(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_null_and_an_empty_string_are_absent(model: type[BaseModel]) -> None:
    for name, _ in fields_of(model):
        for absent in (None, "", " ", "\t\n"):
            assert outcome(model, **{name: absent}) == outcome(model), name


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_choice_may_have_any_case(model: type[BaseModel]) -> None:
    for name, kinds in fields_of(model):
        words = [word for kind in kinds for word in kind.get("enum", ()) if isinstance(word, str)]
        for word in words:
            for sent in (word.upper(), word.lower(), word.title(), f" {word} "):
                assert outcome(model, **{name: sent}) == outcome(model, **{name: word}), name


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_number_or_a_truth_may_be_a_string(model: type[BaseModel]) -> None:
    for name, kinds in fields_of(model):
        types = {kind.get("type") for kind in kinds}
        numbers = NUMBERS if types & {"integer", "number"} and "string" not in types else ()
        truths = (True, False) if "boolean" in types else ()
        for value, sent in product((*numbers, *truths), ("{}", " {} ")):
            for string in (sent.format(value), sent.format(value).lower()):
                assert outcome(model, **{name: string}) == outcome(model, **{name: value}), name


def test_what_is_no_number_is_refused() -> None:
    for sent in ("fast", "1e3", "0x10", "1_000", "nan", "inf", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 5000):
        assert isinstance(outcome(Speak, seed=sent), list)
        assert isinstance(outcome(Start, speed=sent), list)


def test_a_whole_number_may_have_a_fraction_of_zero() -> None:
    assert Start.model_validate({"sampleRate": "8000.0"}).sample_rate == 8000


def test_text_is_left_as_it_is() -> None:
    assert Speak.model_validate({"text": ""}).text == ""
    assert Speak.model_validate({"text": " TRUE 1.0 "}).text == " TRUE 1.0 "
    assert SpeechRequest.model_validate({"input": " "}).input == " "
    assert isinstance(outcome(Speak, text=None), list)


def test_minus_one_is_a_random_seed() -> None:
    for sent in (-1, "-1", -1.0, None, ""):
        assert Speak.model_validate({"text": "Hi.", "seed": sent}).seed is None
    assert TypeAdapter(Seed).json_schema()["minimum"] == -1
    assert isinstance(outcome(Speak, seed=-2), list)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [("ogg", "opus"), ("OGG", "opus"), ("ulaw", "mulaw"), ("g711_alaw", "alaw"), ("MP3", "mp3")],
)
def test_formats_have_other_usual_names(sent: str, meant: str) -> None:
    assert SpeechRequest.model_validate({"input": "Hi.", "response_format": sent}).response_format == meant


def test_every_language_has_its_codes_of_iso_639_and_bcp_47() -> None:
    codes = {
        "Chinese": "zh zho chi cmn cn zh-Hans-CN zh_TW cmn-Hant 中文",
        "English": "en eng en-GB en_US en_US.UTF-8 english ENGLISH",
        "French": "fr fra fre fr-CA français",
        "German": "de deu ger de-AT Deutsch",
        "Italian": "it ita it-CH italiano",
        "Japanese": "ja jpn ja-JP jp jp-JP 日本語",
        "Korean": "ko kor ko-KR kr 한국어",
        "Portuguese": "pt por pt-BR português",
        "Russian": "ru rus ru-RU русский",
        "Spanish": "es spa es-419 español",
    }
    assert tuple(sorted(codes)) == LANGUAGES
    for name, sent in codes.items():
        assert language_name(language_tag(name)) == name
        for code in (*sent.split(), f"{name} (any)"):
            for cased in (code, code.upper(), code.lower(), f" {code} "):
                assert language_name(cased) == name, cased
    assert {language_name(sent) for sent in ("Klingon", "tlh", "", "e", "enx", "-en", "ukr")} == {None}


@pytest.fixture
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("service")
    return Settings(
        _env_file=None, engine="scripted", voices_dir=folder / "voices", cache_dir=folder / "cache"
    )
