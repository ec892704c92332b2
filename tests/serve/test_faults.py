"""What clients do wrong, on purpose or not, and what becomes of it.

One file above 400 lines: a row for each fault, all against one scripted server.
"""

from __future__ import annotations

import json
import math
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import httpx2
import pytest
from chat_samples import CHATML
from scripted_native import Sample, ScriptedNative, ScriptedScheduler
from serving import PATIENCE, Serving, sse

from moevolve.errors import MoevolveError
from moevolve.models.engine import Engine
from moevolve.models.scheduler import Scheduler
from moevolve.serve.limits import Limits

Start = Callable[..., Serving]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
LONG = {"prompt": "x", "max_tokens": 1_000_000}


class Endless(ScriptedNative):
    """Says x until it is told to stop."""

    def __init__(self) -> None:
        super().__init__("", positions=1 << 30)

    def draw(self, ids: list[int], key: int, sampling: Any) -> Iterator[int]:
        return repeat(ord("x"))


class Panic(BaseException):
    """As what the native engine raises where it panics: no `Exception`."""


class Panicking(Endless):
    """Says x once."""

    def draw(self, ids: list[int], key: int, sampling: Any) -> Iterator[int]:
        yield ord("x")
        raise Panic("index out of bounds")


def scripted(answer: Any = "x", template: str | None = None) -> Engine:
    return Engine(ScriptedNative(answer, template), "scripted")  # type: ignore[arg-type]


def endless() -> Engine:
    return Engine(Endless(), "endless")  # type: ignore[arg-type]


def idle(figures: dict[str, Any]) -> bool:
    return figures["busy"] == 0 and figures["waiting"] == 0


def status_of(connection: socket.socket) -> int:
    """Status of the response that comes, to the connection's end."""
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return int(data.split(b" ")[1])


@pytest.mark.parametrize("stream", [False, True])
def test_a_killed_client_frees_its_slot_within_a_second(serving: Start, stream: bool) -> None:
    server = serving(endless())
    body = json.dumps({**LONG, "stream": stream, "n": 3}).encode()
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        server.until(lambda figures: figures["busy"] == 3)
    assert server.until(idle) < 1
    assert server.figures()["cancelled"] == 1


def test_a_client_that_leaves_the_queue_frees_its_place(serving: Start) -> None:
    server = serving(endless(), scheduler=lambda engine: Scheduler(engine, slots=1))
    with server.client.stream("POST", "/v1/completions", json={**LONG, "stream": True}):
        with pytest.raises(httpx2.ReadTimeout):
            server.post("/v1/completions", LONG, timeout=0.3)
        server.until(lambda figures: figures["waiting"] == 0)
    server.until(idle)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_of_100_mb_is_turned_away(serving: Start, announced: bool) -> None:
    server = serving(scripted())
    piece = b"x" * 1_000_000
    headers = {"content-type": "application/json"}
    if announced:
        headers["content-length"] = str(100 * len(piece))
    answer = server.client.post("/v1/completions", headers=headers, content=(piece for _ in range(100)))
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_large"
    assert server.post("/v1/completions", {"prompt": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"garbage", None),
        (b'{"prompt": "a", "zzz": "\xff"}', None),
        (b'{"prompt": "a", "zzz": 1e999}', None),
        (b'{"prompt": "a", "metadata": {"x": 1e999}}', None),
        (b'{"prompt": "a", "\xff": 1}', None),
        (b'{"prompt": "\xff"}', None),
        (b"[" * 50_000, None),
        (b"", None),
        (b"[]", None),
        (b"{}", None),
        (b'{"prompt": 5}', "prompt"),
        (b'{"prompt": []}', "prompt"),
        (b'{"prompt": ["a", 1]}', "prompt"),
        (b'{"prompt": [9999999999]}', "prompt"),
        (b'{"prompt": "a", "n": 0}', "n"),
        (b'{"prompt": "a", "n": 1000000}', "n"),
        (b'{"prompt": "a", "n": 1.5}', "n"),
        (b'{"prompt": "a", "max_tokens": 0}', "max_tokens"),
        (b'{"prompt": "a", "temperature": -1}', "temperature"),
        (b'{"prompt": "a", "temperature": "hot"}', "temperature"),
        (b'{"prompt": "a", "top_p": 0}', "top_p"),
        (b'{"prompt": "a", "min_p": 2}', "min_p"),
        (b'{"prompt": "a", "stop": [""]}', "stop"),
        (b'{"prompt": "a", "logprobs": 21}', "logprobs"),
        (b'{"prompt": "a", "logit_bias": {"dog": 1}}', "logit_bias"),
        (b'{"prompt": "a", "logit_bias": {"1": 1000}}', "logit_bias"),
        (b'{"prompt": "a", "logit_bias": {"01": 1}}', "logit_bias"),
        (b'{"prompt": "a", "logit_bias": {"%s": 1}}' % (b"9" * 5000), "logit_bias"),
        (b'{"prompt": "a", "logit_bias": {"\xd9\xa1": 1}}', "logit_bias"),
        (b'{"prompt": "a", "n": 3, "best_of": 2}', "best_of"),
        (b'{"prompt": "a", "suffix": "b"}', "suffix"),
        (b'{"prompt": "a", "stream_options": {"include_usage": true}}', "stream_options"),
    ],
)
def test_a_wrong_completion_is_named(serving: Start, body: bytes, param: str | None) -> None:
    server = serving(scripted())
    answer = server.client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [5]}]}, "messages[0].tool_calls[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": 5}]}]}, "messages[0].tool_calls[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": 5}}]}]},
            "messages[0].tool_calls[0]",
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"guided_choice": [f"{i}" for i in range(50_000)]}, "guided_choice"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, "tools[1].function.name"),
        ({"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(2000)]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "tools": [TOOL], "ignore_eos": True}, "ignore_eos"),
        ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "stream_options"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"json_schema": {"schema": {}}}}},
            "response_format.json_schema.json_schema",
        ),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"functions": [{}]}, "functions"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 30}, "top_logprobs"),
    ],
)
def test_a_wrong_chat_is_named(serving: Start, wrong: dict[str, Any], param: str) -> None:
    server = serving(scripted("x", "{{ messages[0].content }}"))
    answer = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], **wrong})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("own", ["messages", "self", "go_on"])
def test_template_settings_do_not_reach_past_the_template(serving: Start, own: str) -> None:
    server = serving(scripted("x", "{{ messages[0].content }}"))
    asked = {"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {own: []}}
    assert server.post("/v1/chat/completions", asked).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/v1/files", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/../../etc/passwd", 404),
    ],
)
def test_what_is_not_there(serving: Start, method: str, path: str, status: int) -> None:
    answer = serving(scripted()).client.request(method, path)
    assert answer.status_code == status and answer.json()["error"]["message"]


def test_only_json_is_read(serving: Start) -> None:
    server = serving(scripted())
    answer = server.client.post("/v1/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_a_web_page_under_another_name_is_turned_away(serving: Start) -> None:
    server = serving(scripted())
    assert server.client.get("/v1/models", headers={"host": "evil.example"}).status_code == 403
    assert server.client.get("/v1/models", headers={"host": f"[::1]:{server.port}"}).status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /v1/models HTTP/1.0", 200),
        ("GET /v1/models HTTP/1.0\r\nhost: evil.example", 403),
        ("GET http://localhost:9/v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close", 200),
        ("GET HTTP://127.0.0.1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close", 200),
        ("GET http://evil.example/v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close", 403),
        ("GET http://localhost HTTP/1.1\r\nhost: localhost\r\nconnection: close", 404),
        ("GET /http://localhost/v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close", 404),
    ],
)
def test_a_target_with_a_name_in_it_and_old_clients_without_one(
    serving: Start, head: str, status: int
) -> None:
    server = serving(scripted())
    with server.connect() as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        assert status_of(connection) == status


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/embeddings", {"input": "a"}),
        ("/tokenize", {"prompt": "a"}),
        ("/detokenize", {"tokens": [5]}),
        ("/v1/responses", {"input": "a"}),
    ],
)
def test_another_model_is_not_here_whatever_is_asked_of_it(
    serving: Start, path: str, body: dict[str, Any]
) -> None:
    answer = serving(scripted()).post(path, {**body, "model": "other"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("own", ["answer", "go_on", "messages", "conversation"])
def test_template_settings_of_tokenize_do_not_reach_past_the_template(serving: Start, own: str) -> None:
    server = serving(scripted("x", "{{ messages[0].content }}"))
    asked = {"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {own: True}}
    assert server.post("/tokenize", asked).status_code == 400
    asked = {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]}
    assert server.post("/tokenize", asked).json()["error"]["param"] == "tools[0]"


@pytest.mark.parametrize("sent", [None, "Bearer wrong", "Bearer", "Basic right", "Bearer right more"])
def test_a_wrong_token_opens_nothing(serving: Start, sent: str | None) -> None:
    server = serving(scripted(), token="right")
    with httpx2.Client(base_url=server.url, headers={"authorization": sent} if sent else {}) as client:
        answer = client.post("/v1/completions", json={"prompt": "a"})
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/v1/usage").status_code == 401
        assert client.get("/health").json() == {"status": "ok"}
    assert server.post("/v1/completions", {"prompt": "a"}).status_code == 200


def test_slow_headers_end_the_connection(serving: Start) -> None:
    server = serving(scripted(), Limits(header_seconds=0.2, grace_seconds=1))
    with server.connect() as silent, server.connect() as slow:
        slow.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: loc")
        assert status_of(slow) == 408 and status_of(silent) == 408


def test_slow_headers_of_a_second_request_end_the_connection(serving: Start) -> None:
    server = serving(scripted(), Limits(header_seconds=1, grace_seconds=1))
    with server.connect() as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b"200 OK" in slow.recv(65536)
        slow.sendall(b"GET /health HTTP/1.1\r\nho")
        assert status_of(slow) == 408


def test_a_slow_body_ends_the_request(serving: Start) -> None:
    server = serving(scripted(), Limits(body_seconds=0.2, grace_seconds=1))
    with server.connect() as slow:
        slow.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        assert status_of(slow) == 408


def test_too_many_connections_are_told_so(serving: Start) -> None:
    server = serving(scripted(), Limits(connections=2, grace_seconds=1))
    with server.connect(), server.connect(), server.connect() as third:
        assert status_of(third) == 503


def test_a_full_queue_answers_429(serving: Start) -> None:
    server = serving(
        endless(),
        Limits(queue=1, grace_seconds=1),
        scheduler=lambda engine: Scheduler(engine, slots=1),
    )
    with server.client.stream("POST", "/v1/completions", json={**LONG, "stream": True, "n": 2}):
        server.until(lambda figures: figures["busy"] + figures["waiting"] == 2)
        answer = server.post("/v1/completions", {"prompt": "a"})
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "rate_limit_error"
    server.until(idle)
    assert server.figures()["refused"] == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_ends(serving: Start, stream: bool) -> None:
    server = serving(endless(), Limits(request_seconds=0.2, grace_seconds=1))
    answer = server.post("/v1/completions", {**LONG, "stream": stream})
    if stream:
        *_, error, done = sse(answer.text)
        assert error["error"]["code"] == "timeout" and done == "[DONE]"
    else:
        assert answer.status_code == 504
    server.until(idle)


@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_engine_is_told_to_whoever_waits(serving: Start, stream: bool) -> None:
    engine = endless()
    server = serving(engine)
    broken = threading.Timer(0.2, lambda: setattr(engine.native, "failure", MoevolveError("no luck")))
    broken.start()
    answer = server.post("/v1/completions", {**LONG, "stream": stream})
    if stream:
        assert "no luck" in sse(answer.text)[-2]["error"]["message"]
    else:
        assert answer.status_code == 500 and "no luck" in answer.json()["error"]["message"]
    assert server.post("/v1/completions", {"prompt": "a"}).status_code == 500
    assert server.client.get("/health").status_code == 503


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("stream", [False, True])
def test_a_panic_of_the_engine_is_told_to_whoever_waits(serving: Start, stream: bool) -> None:
    server = serving(Engine(Panicking(), "panicking"))  # type: ignore[arg-type]
    answer = server.post("/v1/completions", {**LONG, "stream": stream})
    error = sse(answer.text)[-2]["error"] if stream else answer.json()["error"]
    assert error["code"] == "engine_failed" and "Panic: index out of bounds" in error["message"]
    assert server.post("/v1/completions", {"prompt": "a"}).status_code == 500
    assert server.client.get("/health").status_code == 503


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
def test_a_model_without_numbers_gives_no_answer(serving: Start, path: str, monkeypatch: Any) -> None:
    def ended(told: Sample) -> Sample:
        return Sample(told.request, told.sample, [], [], [], "not_finite")

    step = ScriptedScheduler.step
    monkeypatch.setattr(ScriptedScheduler, "step", lambda self: list(map(ended, step(self))))
    server = serving(scripted(template=CHATML))
    asked = {"prompt": "x"} if path == "completions" else {"messages": [{"role": "user", "content": "x"}]}
    answer, streamed = (server.post(f"/v1/{path}", {**asked, "stream": stream}) for stream in (False, True))
    for error in (answer.json()["error"], sse(streamed.text)[-2]["error"]):
        assert (answer.status_code, error["code"]) == (500, "not_finite")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("embeddings", {"input": "x"}),
        ("completions", {"prompt": "xy", "echo": True, "logprobs": 1, "max_tokens": 1}),
    ],
)
def test_what_is_read_of_a_model_without_numbers_is_no_answer(
    serving: Start, path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = [1.0, math.inf]
    monkeypatch.setattr(ScriptedNative, "embed_part", lambda self, ids, read, sums: (len(ids), [], damaged))
    monkeypatch.setattr(
        ScriptedNative, "score_part", lambda self, ids, top, read: ([(math.nan, [])], len(ids))
    )
    answer = serving(scripted()).post(f"/v1/{path}", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "not_finite")


def test_answers_under_way_end_with_the_grace(serving: Start) -> None:
    server = serving(endless(), Limits(grace_seconds=0.3))
    found: list[httpx2.Response] = []
    whole = threading.Thread(
        target=lambda: found.append(httpx2.post(f"{server.url}/v1/completions", json=LONG, timeout=PATIENCE))
    )
    whole.start()
    with server.client.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as stream:
        server_busy = lambda: server.call(lambda: server.service.current.driver.outstanding)  # noqa: E731
        while server_busy() < 2:
            pass
        server.begin_to_stop()
        *_, error, done = sse(stream.read().decode())
    whole.join(PATIENCE)
    assert error["error"]["code"] == "shutting_down" and done == "[DONE]"
    assert found[0].status_code == 503 and found[0].json()["error"]["code"] == "shutting_down"


def test_an_answer_that_fits_into_the_grace_ends_well(serving: Start) -> None:
    server = serving(scripted("x" * 3000), Limits(grace_seconds=PATIENCE))
    asked = {"prompt": "x", "max_tokens": 5000, "stream": True}
    with server.client.stream("POST", "/v1/completions", json=asked) as stream:
        server.begin_to_stop()
        events = sse(stream.read().decode())
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == "x" * 3000
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
