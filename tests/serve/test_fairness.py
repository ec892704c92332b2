"""What one client asks for holds up no other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from chat_samples import CHATML
from scripted_native import ScriptedNative
from serving import PATIENCE, TEMPLATE, Serving, scripted

from moevolve.models.engine import Engine
from moevolve.models.scheduler import Scheduler
from moevolve.serve.limits import Limits

Start = Callable[..., Serving]
TALK = [{"role": "user", "content": "wait"}]


class Slow(ScriptedNative):
    """Reads, and writes, the word `wait` once it may."""

    def __init__(self) -> None:
        super().__init__("x", TEMPLATE)
        self.begun, self.may = threading.Event(), threading.Event()

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        self._wait(text)
        return super().encode(text, add_special)

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        text = super().decode(ids, skip_special)
        self._wait(text)
        return text

    def _wait(self, text: str) -> None:
        if "wait" in text:
            self.begun.set()
            assert self.may.wait(PATIENCE)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"prompt": "wait"}),
        ("/tokenize", {"messages": TALK}),
        ("/detokenize", {"tokens": list(map(ord, "wait"))}),
        ("/v1/embeddings", {"input": "wait"}),
        ("/v1/completions", {"prompt": "wait"}),
        ("/v1/chat/completions", {"messages": TALK}),
        ("/v1/responses", {"input": "wait"}),
    ],
)
def test_a_long_text_is_read_beside_the_loop(serving: Start, path: str, body: dict[str, Any]) -> None:
    native = Slow()
    server = serving(Engine(native, "slow"))  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(server.post, path, body)
        assert native.begun.wait(PATIENCE)
        assert server.client.get("/health").json() == {"status": "ok"}
        native.may.set()
        assert answer.result().status_code == 200


class Reading(ScriptedNative):
    """Reads a text once it may."""

    def __init__(self) -> None:
        super().__init__("x", TEMPLATE)
        self.begun, self.may = threading.Event(), threading.Event()
        self.computed = 0

    def embed_part(self, *of: Any) -> Any:
        self._compute()
        return super().embed_part(*of)

    def score_part(self, *of: Any) -> Any:
        self._compute()
        return super().score_part(*of)

    def _compute(self) -> None:
        self.computed += 1
        self.begun.set()
        assert self.may.wait(PATIENCE)


SCORED = {"echo": True, "logprobs": 1, "max_tokens": 1}
TEXTS = [f"text {n}" for n in range(40)]
LONG = "a long text " * 40


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": TEXTS}),
        ("/v1/completions", {"prompt": TEXTS, **SCORED}),
        ("/v1/embeddings", {"input": LONG}),
        ("/v1/completions", {"prompt": LONG, **SCORED}),
    ],
)
def test_nothing_further_is_read_for_a_client_that_left(
    serving: Start, path: str, body: dict[str, Any]
) -> None:
    native = Reading()
    server = serving(Engine(native, "reading"))  # type: ignore[arg-type]
    told = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with server.connect() as connection:
        connection.sendall(f"{head}content-length: {len(told)}\r\n\r\n".encode() + told)
        assert native.begun.wait(PATIENCE)
    server.until(lambda figures: figures["cancelled"] == 1)
    native.may.set()
    assert server.post("/v1/completions", {"prompt": "a", **SCORED}).status_code == 200
    assert native.computed == 2, "the first text or part of many, and that of the client who stayed"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/embeddings", {"input": TEXTS}), ("/v1/completions", {"prompt": "a", **SCORED})],
)
def test_texts_that_are_read_have_a_place_and_a_time(serving: Start, path: str, body: dict[str, Any]) -> None:
    native = Reading()
    server = serving(
        Engine(native, "reading"),  # type: ignore[arg-type]
        Limits(queue=0, request_seconds=0.5, grace_seconds=1),
        scheduler=lambda engine: Scheduler(engine, slots=1),
    )
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(server.post, path, body)
        assert native.begun.wait(PATIENCE)
        assert server.post("/v1/completions", {"prompt": "a"}).status_code == 429
        assert answer.result().status_code == 504
        assert server.post("/v1/embeddings", {"input": "a"}).status_code == 429, "its thread goes on"
    native.may.set()
    while (status := server.post("/v1/completions", {"prompt": "a"}).status_code) == 429:
        time.sleep(0.01)
    assert status == 200


def test_a_schema_that_refers_to_itself_over_and_over_holds_up_nobody(serving: Start) -> None:
    """Each link of the chain asks twice for the one before it."""
    links = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n - 1}"}] * 2} for n in range(1, 40)}
    endlessly = {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}
    for schema in ({"$ref": "#/$defs/a39", "$defs": {"a0": {"type": "object"}, **links}}, endlessly):
        call = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
        server = serving(scripted(call, CHATML))
        tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
        asked = {"messages": [{"role": "user", "content": "a"}], "tools": tools, "stream": True}
        with server.client.stream("POST", "/v1/chat/completions", json=asked) as answer:
            assert server.client.get("/health").json() == {"status": "ok"}
            assert '"tool_calls"' in "".join(answer.iter_text())
