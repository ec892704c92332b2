"""Feedback lands on the text that the client got under its id and number, whatever was drawn beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from serving import Serving, chat_seed

from moevolve.errors import UsageError
from moevolve.journal.store import RunStore
from moevolve.models.engine import Engine
from moevolve.serve.completions import EventStream
from moevolve.serve.deployed import Deployed, opened
from moevolve.serve.interactions import Feedback, Interaction, Interactions
from moevolve.serve.jobs import Job

Start = Callable[..., Serving]
FREE = {"temperature": 2.0, "max_tokens": 12, "seed": 3}
"""Samples that differ."""


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    chat_seed(tmp_path)
    with opened(tmp_path / "learn", tmp_path / "model", 1) as deployed:
        yield deployed


@pytest.fixture
def server(serving: Start, seed_model: Engine, deployed: Deployed) -> Serving:
    return serving(seed_model, learn=deployed)


def ask(server: Serving, path: str, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = server.post(path, body).json()
    return answer


def endorse(server: Serving, id: str, choice: int = 0) -> int:
    return server.post("/v1/feedback", {"id": id, "choice": choice, "score": 1}).status_code


def endorsed(server: Serving) -> list[str]:
    """The texts that clients stand for."""
    rows = server.client.get("/v1/interactions").json()["data"]
    return [row["answers"][said["choice"]] for row in rows for said in row["feedback"]]


@pytest.mark.parametrize("choice", [0, 1])
def test_of_several_that_were_drawn_it_is_the_one_that_was_told(server: Serving, choice: int) -> None:
    answer = ask(server, "/v1/completions", prompt="abc", n=2, best_of=6, **FREE)
    texts = [told["text"] for told in answer["choices"]]
    assert len(set(texts)) == 2
    assert endorse(server, answer["id"], choice) == 200
    assert endorsed(server) == [texts[choice]]


def test_what_was_drawn_and_not_told_has_no_number(server: Serving) -> None:
    answer = ask(server, "/v1/completions", prompt="abc", n=2, best_of=6, **FREE)
    assert endorse(server, answer["id"], 2) == 404
    (row,) = server.client.get("/v1/interactions").json()["data"]
    assert row["answers"] == [told["text"] for told in answer["choices"]]


def test_choices_of_several_prompts_are_numbered_through(server: Serving) -> None:
    prompts = ["abc", "bcd", "cde"]
    answer = ask(server, "/v1/completions", prompt=prompts, n=2, best_of=4, **FREE)
    texts = [told["text"] for told in answer["choices"]]
    for number in range(6):
        assert endorse(server, answer["id"], number) == 200
    assert endorse(server, answer["id"], 6) == endorse(server, answer["id"], -1) == 404
    rows = server.client.get("/v1/interactions").json()["data"]
    assert [row["prompt"] for row in rows] == prompts and endorsed(server) == texts
    # All of the answer goes by the id that the client has.
    assert server.client.delete(f"/v1/interactions/{answer['id']}").json() == {"erased": 3}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/responses"])
def test_every_answer_is_known_by_the_id_that_the_client_got(
    server: Serving, path: str, stream: bool
) -> None:
    text = "rev:abc="
    bodies: dict[str, dict[str, Any]] = {
        "/v1/completions": {"prompt": text},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": text}]},
        "/v1/responses": {"input": text},
    }
    answer = server.post(path, {**bodies[path], "temperature": 0, "stream": stream}).text
    events = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: {")]
    last = json.loads(events[-1] if stream else answer)
    assert endorse(server, last.get("response", last)["id"]) == 200


class Ended:
    """The envelope of an answer that has ended."""

    job = Job(draws=[], choices=[], kind="", piece="", name="", prompt_tokens=0)
    name = "answer"
    seconds = 1.0

    def whole(self) -> dict[str, Any]:
        return {}

    def opening(self) -> bytes:
        return b""

    def progress(self, pieces: list[dict[str, Any]]) -> bytes:
        return b""

    def ending(self, usage: bool) -> bytes:
        return b"end"

    def failed(self, error: dict[str, Any]) -> bytes:
        return b"failed"


def test_a_stream_is_kept_before_its_client_can_judge_it() -> None:
    order: list[str] = []

    async def receive() -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and not message["more_body"]:
            order.append(message["body"].decode())

    async def streamed() -> None:
        stream = EventStream(Ended(), [], False, lambda: order.append("kept"), ExitStack())
        await stream({"type": "http"}, receive, send)

    asyncio.run(streamed())
    assert order == ["kept", "end"]


def test_a_prompt_of_an_answer_that_is_gone_is_not_another_one(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run") as store:
        kept = Interactions(store)
        for index in range(3):
            id, answers = f"a.{index}", [f"{index} first", f"{index} second"]
            kept.keep(
                Interaction(id=id, client="ann", at=index, prompt=f"p{index}", answers=answers, weights="w")
            )
        assert kept.erase(["a.0"]) == 1
        kept.judge(Feedback(id="a", choice=3, client="ann", at=0, score=1.0))
        with pytest.raises(UsageError, match="no answer 'a', choice 1"):
            kept.judge(Feedback(id="a", choice=1, client="ann", at=0, score=1.0))
        # By the interaction's own id, a choice is one of its answers.
        kept.judge(Feedback(id="a.2", choice=1, client="ann", at=0, score=1.0))
        assert [(said.id, said.choice) for said in kept.feedback()] == [("a.1", 1), ("a.2", 1)]
