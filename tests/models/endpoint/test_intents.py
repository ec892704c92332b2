"""Calls that were out when a process was killed: on the bill of the run that goes on, each once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import serving

from moevolve.journal.store import RunStore
from moevolve.models.endpoint.exchange import Exchange
from moevolve.models.endpoint.intents import NAME, Intents
from moevolve.models.endpoint.replies import read
from moevolve.models.endpoint.tape import Tape
from moevolve.protocol.completion import Completion
from moevolve.protocol.messages import ToolCall

NOTHING = Exchange(completions=[], calls=0)
HALF = Exchange(
    completions=[Completion("a", [], [], "stop")], calls=2, faults={"timeout": 1}, prompt_tokens=9
)


def test_a_call_counts_from_the_moment_in_which_it_leaves(tmp_path: Path) -> None:
    intents = Intents(tmp_path)
    for digest in ("never", "out"):
        intents.begin(digest, NOTHING)
    intents.begin("again", HALF)
    for digest in ("out", "again"):
        intents.sent(digest)
    (tmp_path / NAME).open("a").write("begin torn")
    left = Intents(tmp_path).left()
    assert {digest: (each.calls, each.unmetered) for digest, each in left.items()} == {
        "out": (1, 1),
        "again": (3, 1),
    }
    assert left["again"].completions == HALF.completions and left["again"].faults == HALF.faults
    intents.settle()
    assert not (tmp_path / NAME).exists() and Intents(tmp_path).left() == {}


def test_a_later_begin_takes_over_from_an_earlier_one(tmp_path: Path) -> None:
    intents = Intents(tmp_path)
    intents.begin("x", NOTHING)
    intents.sent("x")
    intents.begin("x", HALF)
    assert Intents(tmp_path).left()["x"] == HALF


def test_what_a_killed_process_left_is_taken_over_and_what_it_kept_is_not_counted_again(
    tmp_path: Path,
) -> None:
    with RunStore.create(tmp_path / "run") as store:
        tape = Tape(store, lambda: 0)
        for digest in ("kept", "lost"):
            tape.begin(digest, NOTHING)
            tape.sent(digest)
        tape.keep([("kept", HALF)])
        taken = Tape(store, lambda: 0)  # as the process that resumes
        assert not (store.path / NAME).exists()
        assert taken.begun("kept") is None and taken.find("kept") == HALF
        lost = taken.begun("lost")
        assert lost is not None and (lost.calls, lost.unmetered) == (1, 1)
        taken.keep([("lost", lost)])
        assert taken.begun("lost") is None


def test_calls_of_tools_with_integers_of_any_size_are_kept(tmp_path: Path) -> None:
    call = ToolCall(0, "multiply", {"a": 10**30, "rest": [{"b": -(10**20)}], "c": "x"})
    wide = Exchange(completions=[Completion("", [], [], "tool_calls", (call,))])
    with RunStore.create(tmp_path / "run") as store:
        tape = Tape(store, lambda: 0)
        tape.begin("lost", wide)
        tape.keep([("kept", wide)])
        taken = Tape(store, lambda: 0)
        assert taken.find("kept") == wide and taken.begun("lost") == wide
    assert wide.content() != Exchange(completions=[]).content()


def test_an_exchange_goes_on_from_what_it_had_come_to(ask: Any, a_request: Any) -> None:
    seen: list[tuple[str, int, int]] = []

    class Witness:
        def begin(self, place: int, so_far: Exchange) -> None:
            seen.append(("begin", place, so_far.calls))

        def sent(self, place: int) -> None:
            seen.append(("sent", place, 0))

    begun = Exchange(completions=HALF.completions, calls=2, unmetered=1)
    with serving(lambda body, tries: "server_error" if tries == 0 else "ok") as server:
        [exchange] = ask(server, a_request(n=2), witness=Witness(), begun={0: begun})
    assert exchange.texts == ["a", "cba"] and (exchange.calls, exchange.unmetered) == (4, 1)
    assert seen == [("begin", 0, 2), ("sent", 0, 0), ("begin", 0, 3), ("sent", 0, 0)]


@pytest.mark.parametrize(
    ("content", "text", "reasoning", "finish"),
    [
        ("<think>\nhm\n</think>\n\n5", "5", "hm", "stop"),
        ("<think>on and on", "", "on and on", "reasoning"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", "", "stop"),
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "5"},
            ],
            "5",
            "hm",
            "stop",
        ),
        ("it says <think>", "it says <think>", "", "stop"),
    ],
)
def test_reasoning_stands_apart_from_the_answer(content: Any, text: str, reasoning: str, finish: str) -> None:
    body = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    [said] = read(200, {}, json.dumps(body).encode(), "chat", lambda: 0.0).completions
    assert (said.text, said.reasoning, said.finish) == (text, reasoning, finish)
