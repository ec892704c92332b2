"""Newer weights under traffic."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx2
from scripted_native import ScriptedNative
from serving import PATIENCE, Serving, sse

from moevolve.models.engine import Engine
from moevolve.protocol.training import Example

Start = Callable[..., Serving]
LENGTH = 2000


def saying(letter: str) -> Engine:
    return Engine(ScriptedNative(letter * LENGTH), letter)  # type: ignore[arg-type]


def test_twenty_swaps_break_no_stream(serving: Start) -> None:
    server = serving(saying("a"))
    texts: list[tuple[str, str, str]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:
            while not stop.is_set():
                answer = client.post(
                    "/v1/completions", json={"prompt": "x", "max_tokens": 4000, "stream": True}
                )
                events = sse(answer.text)
                text = "".join(event["choices"][0]["text"] for event in events[:-1])
                finger = {event["system_fingerprint"] for event in events[:-1]}
                texts.append((text, *finger, events[-2]["choices"][0]["finish_reason"]))  # type: ignore[arg-type]

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for letter in "bcdefghijklmnopqrstu":
        answered = len(texts)
        while len(texts) < answered + 2:
            pass
        server.deploy(saying(letter), letter)
    stop.set()
    for client in clients:
        client.join(PATIENCE)
    assert server.figures()["swaps"] == 20
    assert all(text == finger * LENGTH and finish == "stop" for text, finger, finish in texts)
    assert len({finger for _, finger, _ in texts}) > 10
    server.until(lambda figures: figures["draining"] == 0)


def test_new_requests_go_to_the_new_weights_while_an_old_stream_goes_on(serving: Start) -> None:
    server = serving(saying("a"))
    asked: dict[str, Any] = {"prompt": "x", "max_tokens": 4000, "stream": True}
    with server.client.stream("POST", "/v1/completions", json=asked) as old:
        lines = old.iter_lines()
        first = next(lines)
        server.deploy(saying("b"), "b")
        new = server.post("/v1/completions", {"prompt": "x", "max_tokens": 3}).json()
        assert new["choices"][0]["text"] == "bbb" and new["system_fingerprint"] == "b"
        rest = "".join([first, *(f"\n{line}" for line in lines)])
    assert "".join(event["choices"][0]["text"] for event in sse(rest)[:-1]) == "a" * LENGTH
    server.until(lambda figures: figures["draining"] == 0)


def test_weights_that_learn_are_swapped_under_a_chat_service(serving: Start, seed_model: Engine) -> None:
    taught = seed_model.clone()
    taught.reset_optimizer()
    ids = taught.encode("rev:abc=zzz")
    for _ in range(5):
        taught.train([Example(tokens=ids, start=8)], 1e-2)
    asked: dict[str, Any] = {
        "messages": [{"role": "user", "content": "rev:abcdefgh="}],
        "max_tokens": 40,
        "seed": 3,
        "stream": True,
    }
    own = {
        name: engine.chat(asked["messages"], max_tokens=40, temperature=1.0, seed=3).content
        for name, engine in (("old", seed_model), ("new", taught))
    }
    assert own["old"] != own["new"]
    server = serving(seed_model)
    server.deploy(seed_model, "old")
    told: list[tuple[str, str]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:
            while not stop.is_set():
                events = sse(client.post("/v1/chat/completions", json=asked).text)[:-1]
                text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
                (weights,) = {event["system_fingerprint"] for event in events}
                assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")
                told.append((weights, text))

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    for swap in range(20):
        answered = len(told)
        while len(told) < answered + 4:
            pass
        server.deploy(*((taught.clone(), "new") if swap % 2 == 0 else (seed_model.clone(), "old")))
    stop.set()
    for client in clients:
        client.join(PATIENCE)
    assert all(text == own[weights] for weights, text in told)
    assert {weights for weights, _ in told} == {"old", "new"} and len(told) >= 80
    server.until(lambda figures: figures["draining"] == 0)
