"""Fields that a server refuses: found out once, by its own words, and asked without from then on."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from scripted_endpoint import serving

from moevolve.models.endpoint.fields import culprit, fitted, named, rivals
from moevolve.protocol.sampling import Sampling

OPENAI = {
    "error": {
        "message": "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead.",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
}
SENT = {"n": 1, "temperature": 0.5, "top_p": 1.0, "max_tokens": 9, "seed": 3, "stop": ["a"]}


EXTRA = {
    "type": "extra_forbidden",
    "loc": ["body", "seed"],
    "msg": "Extra inputs are not permitted",
    "input": 3,
}
GOOGLE = {"code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (OPENAI, "max_tokens"),
        ({"error": {"message": "Unsupported value: 'temperature' does not support 0.5"}}, "temperature"),
        ({"error": {"message": "not supported with this model", "param": "stop"}}, "stop"),
        ({"error": {"message": "stop sequences are not supported"}}, "stop"),
        ({"error": "property 'top_p' is unsupported"}, "top_p"),
        ({"error": {"message": "'n' : number must be at most 1 with this model"}}, "n"),
        ({"error": {"message": "Only one completion choice is allowed"}}, "n"),
        ({"error": {"message": "multiple completions are not supported"}}, "n"),
        ({"detail": [EXTRA]}, "seed"),
        ({"message": {"detail": [EXTRA]}, "type": "invalid_request_error", "param": None}, "seed"),
        ({"object": "error", "message": str([EXTRA]), "code": 400}, "seed"),
        ([{"error": GOOGLE}], "seed"),
        ({"error": {"message": "Argument not supported: frequencyPenalty, topP"}}, "top_p"),
        ({"error": {"message": "Validation error", "details": [{"field": "seed"}]}}, "seed"),
        ({"message": "Validation failed", "errors": {"seed": ["is not permitted"]}}, "seed"),
        ({"title": "One or more validation errors", "errors": {"$.seed": ["could not be mapped"]}}, "seed"),
        ({"statusCode": 400, "message": ["property seed should not exist"]}, "seed"),
        ({"error": {"innererror": {"param": "/seed"}}}, "seed"),
        ({"error": {"message": "unknown field `top_p`"}, "request": {"seed": 3, "n": 1}}, "top_p"),
        ("unknown field: seed", "seed"),
        ({"error": {"message": "This model's maximum context length is 9; reduce max_tokens"}}, None),
        ({"error": {"message": "stop it, this prompt is not allowed"}}, None),
        ({"error": {"message": "frequency_penalty is not supported"}}, None),
        ([1], None),
        ("a" * 99, None),
    ],
)
def test_a_refusal_names_what_the_request_can_do_without(body: Any, field: str | None) -> None:
    assert culprit(named(json.dumps(body).encode()), SENT, ()) == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"seed is not supported", "seed"),
        (b"<html><p>seed is not supported</p></html>", None),
        (b'\xef\xbb\xbf{"error": "seed is unknown"}', "seed"),
        (b"[" * 100_000, None),
        (b'{"a":' * 100 + b'"seed"' + b"}" * 100, None),
        (b"\xff\xfe", None),
    ],
)
def test_a_refusal_need_not_be_json(body: bytes, field: str | None) -> None:
    assert culprit(named(body), SENT, ()) == field


def test_the_limit_goes_under_one_name_or_the_other_and_is_never_left_out() -> None:
    assert fitted(SENT, {"max_tokens", "seed"}) == {
        "n": 1,
        "temperature": 0.5,
        "top_p": 1.0,
        "stop": ["a"],
        "max_completion_tokens": 9,
    }
    assert culprit(["max_completion_tokens"], {"max_completion_tokens": 9}, {"max_tokens"}) is None


@pytest.mark.parametrize(
    "said",
    [
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        "Specify either temperature or top_p",
        "temperature and top_p are mutually exclusive",
        "temperature cannot be used when top_p is set",
    ],
)
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"temperature": 0.0, "top_p": 1.0}, "top_p"),
        ({"temperature": 1.0, "top_p": 0.9}, "temperature"),
        ({"temperature": 1.0, "top_p": 1.0}, "top_p"),
        ({"temperature": 0.7, "top_p": 0.9}, "temperature"),
    ],
)
def test_of_two_fields_that_exclude_each_other_the_one_goes_that_asks_for_nothing(
    said: str, values: dict[str, float], field: str
) -> None:
    body = json.dumps({"error": {"message": said, "param": "temperature"}}).encode()
    assert culprit(named(body), values, (), rivals(body)) == field


def test_a_field_that_a_refusal_mentions_beside_is_no_rival() -> None:
    body = b'{"error": {"message": "seed is not supported here, unlike top_p"}}'
    assert culprit(named(body), SENT, (), rivals(body)) == "seed"


def test_the_temperature_reaches_a_server_that_takes_it_without_top_p(ask: Any, a_request: Any) -> None:
    def script(body: dict[str, Any], tries: int) -> str:
        return "refuse_both" if {"temperature", "top_p"} <= body.keys() else "ok"

    with serving(script) as server:
        [exchange] = ask(server, a_request())
    assert exchange.texts == ["cba"] and list(exchange.refused) == ["top_p"]
    assert server.seen[-1]["temperature"] == 0.0 and "top_p" not in server.seen[-1]


def strict(*refused: str) -> Any:
    """A server that refuses some fields, one at a time."""
    names = {"stop": "refuse_stop", "max_tokens": "refuse_max_tokens", "seed": "refuse_seed", "n": "refuse_n"}

    def script(body: dict[str, Any], tries: int) -> str:
        return next((names[name] for name in refused if name in body), "ok")

    return script


def test_refused_fields_are_learned_once_said_and_on_record(ask: Any, a_request: Any) -> None:
    with serving(strict("max_tokens", "seed", "n"), most_n=1) as server:
        exchanges = ask(server, *(a_request(f"rev:{text}=", n=2, key=i) for i, text in enumerate("abc")))
    assert [exchange.texts for exchange in exchanges] == [["a", "a"], ["b", "b"], ["c", "c"]]
    assert list(exchanges[0].refused) == ["max_tokens", "seed", "n"]
    assert "max_completion_tokens" in exchanges[0].refused["max_tokens"]
    assert [exchange.refused for exchange in exchanges[1:]] == [{}, {}]
    assert [exchange.calls for exchange in exchanges] == [5, 2, 2] and len(server.seen) == 9
    assert all(body["max_completion_tokens"] == 16 for body in server.seen[3:])


def test_a_server_that_knows_no_stop_is_cut_short_here(ask: Any, a_request: Any) -> None:
    wanted = a_request("rev:abcd=")
    wanted = msgspec.structs.replace(
        wanted, sampling=Sampling(max_tokens=16, temperature=0.0, stop=("b", "c"))
    )
    with serving(strict("stop")) as server:
        [exchange] = ask(server, wanted)
    assert exchange.texts == ["d"] and list(exchange.refused) == ["stop"]
    assert "stop" in server.seen[0] and "stop" not in server.seen[1]


def test_what_was_left_out_in_vain_is_not_learned(ask: Any, a_request: Any) -> None:
    def script(body: dict[str, Any], tries: int) -> str:
        if body["messages"][-1]["content"] != "rev:b=":
            return "ok"
        return "refuse_seed" if "seed" in body else "refuse"

    with serving(script) as server:
        exchanges = ask(
            server, *(a_request(f"rev:{text}=", key=i) for i, text in enumerate("abc")), concurrency=1
        )
    assert [exchange.failure for exchange in exchanges] == [None, "rejected", None]
    assert "this prompt is not allowed" in exchanges[1].detail
    assert "seed" in server.seen[-1]
