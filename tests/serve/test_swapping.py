"""Newer weights under traffic."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx2
from scripted_native import ScriptedNative
from serving import PATIENCE, Serving, sse

from moevolve.policy.engine import Engine

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
