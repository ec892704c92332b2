"""A champion's program behind a model's name: its plans and its sandboxed coroutines answer chats, and only those."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from serving import Serving, sse

import moevolve as mv
from moevolve.agents.genome import Genome
from moevolve.errors import UsageError
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop import resolve
from moevolve.loop.champion_server import ChampionServer, ServedModel
from moevolve.loop.variants import encode
from moevolve.models.champions import champion_of
from moevolve.models.endpoint.client import Client
from moevolve.models.engine import Engine
from moevolve.records import VariantAdded
from moevolve.serve.limits import Limits
from moevolve.serve.program import TOGETHER, ServedProgram
from moevolve.tasks import registry

MODEL = "test+program"
Start = Callable[..., Serving]


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def asked(server: Serving, text: str, **fields: Any) -> Any:
    return server.post("/v1/chat/completions", {"model": MODEL, "messages": user(text), **fields})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mv.evolve("small", cycles=0, seed=3, out=tmp_path_factory.mktemp("program") / "run").wait().path


@pytest.fixture(scope="module")
def engine(run: Path) -> Engine:
    return champion_of(run, Engine, 1)


@pytest.fixture
def planned(run: Path, engine: Engine, serving: Start) -> Iterator[Serving]:
    """The seed program: a plan that asks once."""
    with RunStore.open(run) as store:

        def program() -> ServedProgram:
            made = ServedProgram(store, MODEL)
            made.deploy(read(store).variant(0))
            return made

        yield serving(engine, program=program)


@pytest.fixture
def computing(engine: Engine, tmp_path: Path, serving: Start) -> Iterator[Callable[[str], Serving]]:
    """Serves a program whose `solve` is a coroutine, of a run on a skill of a user's own."""

    @mv.skill("shop/total", levels=(1, 1))
    def total(rng: Random, level: int) -> mv.Task:
        return mv.Task(prompt=f"What is the total of {rng.randrange(10**6)} and 1?", answer="x")

    settings = {
        "suite": {"name": "user", "levels": [1, 1], "sealed_per_cell": 1, "dev_per_cell": 1},
        "roles.solver.requests": 4,
    }
    path = mv.evolve("small", cycles=0, out=tmp_path / "own", settings=settings).wait().path
    opened: list[RunStore] = []

    def serve(source: str, **options: Any) -> Serving:
        with RunStore.open(path, write=True) as store:
            first = read(store).variant(0)
            program = store.put_blob(encode(Genome(files={"solve.py": source})))
        opened.append(RunStore.open(path))
        record = VariantAdded(
            variant="v0001",
            parents=["v0000"],
            cycle=1,
            level="program",
            weights=first.weights,
            program=program,
            operator="by hand",
            summary="",
            score=None,
        )

        def made() -> ServedProgram:
            served = ServedProgram(opened[-1], MODEL)
            served.deploy(record)
            return served

        return serving(engine, program=made, **options)

    yield serve
    for store in opened:
        store.close()
    registry.forget("shop/total")


class TestPlans:
    def test_the_last_message_is_a_task_that_the_program_solves(
        self, planned: Serving, engine: Engine
    ) -> None:
        told = asked(planned, "rev:abcd=").json()
        [choice] = told["choices"]
        assert choice["message"] == {"role": "assistant", "content": "dcba"}
        assert (choice["finish_reason"], told["object"], told["model"]) == ("stop", "chat.completion", MODEL)
        assert told["program"]["variant"] == "v0000" and told["program"]["skill"] == "text/reverse"
        drawn = engine.generate(["rev:abcd="], max_tokens=32)[0][0]
        assert told["program"]["requests"] == 1
        assert told["usage"] == {
            "prompt_tokens": len(engine.encode("rev:abcd=")),
            "completion_tokens": drawn.count,
            "total_tokens": len(engine.encode("rev:abcd=")) + drawn.count,
        }

    def test_the_servers_own_figures_count_it(self, planned: Serving) -> None:
        usage = asked(planned, "rev:abcd=").json()["usage"]
        figures = planned.figures()
        assert (figures["requests"], figures["finished"]) == (1, 1)
        assert figures["prompt_tokens"] == usage["prompt_tokens"]
        assert figures["completion_tokens"] == usage["completion_tokens"]

    def test_a_stream_says_what_the_whole_answer_says(self, planned: Serving) -> None:
        whole = asked(planned, "rev:abcd=", seed=1).json()
        fields = {"model": MODEL, "messages": user("rev:abcd="), "seed": 1, "n": 2}
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
        pieces = sse(planned.post("/v1/chat/completions", fields).text)[:-1]
        texts = {0: "", 1: ""}
        for piece in pieces:
            for choice in piece["choices"]:
                texts[choice["index"]] += choice["delta"].get("content", "")
        assert texts == dict.fromkeys((0, 1), whole["choices"][0]["message"]["content"])
        assert pieces[-1]["usage"]["completion_tokens"] == 2 * whole["usage"]["completion_tokens"]

    def test_it_is_listed_beside_the_model(self, planned: Serving) -> None:
        listed = planned.client.get("/v1/models").json()["data"]
        assert [model["id"] for model in listed] == ["test", MODEL]
        assert planned.client.get(f"/v1/models/{MODEL}").json()["program"] == {
            "variant": "v0000",
            "suite": "primer",
        }

    def test_the_model_itself_answers_as_ever(self, planned: Serving) -> None:
        told = planned.post("/v1/completions", {"model": "test", "prompt": "rev:abcd=", "temperature": 0})
        assert told.json()["choices"][0]["text"] == "dcba"
        assert planned.post("/v1/completions", {"model": MODEL, "prompt": "rev:abcd="}).status_code == 400

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"temperature": 0}, "temperature"),
            ({"top_p": 0.5}, "top_p"),
            ({"stop": "x"}, "stop"),
            ({"logprobs": True}, "logprobs"),
            ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
            ({"messages": [{"role": "system", "content": "Be brief."}, *user("rev:ab=")]}, "messages"),
            ({"messages": [*user("rev:ab="), {"role": "assistant", "content": "ba"}]}, "messages"),
            ({"messages": user("")}, "messages"),
            ({"messages": user("What is two and two?")}, "messages"),
            ({"metadata": {"skill": "text/nothing"}}, "metadata.skill"),
            ({"n": 1000}, "n"),
        ],
    )
    def test_what_a_program_does_not_do_is_refused_by_name(
        self, fields: dict[str, Any], param: str, planned: Serving
    ) -> None:
        body = {"model": MODEL, "messages": user("rev:abcd="), **fields}
        told = planned.post("/v1/chat/completions", body)
        assert (told.status_code, told.json()["error"]["param"]) == (400, param)

    def test_a_skill_may_be_named(self, planned: Serving) -> None:
        told = asked(planned, "abcd", metadata={"skill": "text/reverse"}).json()
        assert told["program"]["skill"] == "text/reverse"

    def test_no_answer_within_the_clients_tokens_is_an_error_and_no_text(self, planned: Serving) -> None:
        told = asked(planned, "rev:abcd=", max_tokens=4)
        assert (told.status_code, told.json()["error"]["code"]) == (422, "program_budget")


class TestCoroutines:
    def test_a_computed_answer_comes_out_of_the_sandbox(self, computing: Callable[..., Serving]) -> None:
        server = computing(
            "import re\n"
            "async def solve(task, agent):\n"
            "    await agent.generate(task.prompt, temperature=0)\n"
            "    return str(sum(map(int, re.findall(r'[0-9]+', task.prompt))))\n"
        )
        told = asked(server, "What is the total of 34 and 17?").json()
        assert told["choices"][0]["message"]["content"] == "51"
        assert told["program"]["requests"] == 1 and told["usage"]["completion_tokens"] > 0

    @pytest.mark.parametrize(
        ("source", "code"),
        [
            ("async def solve(task, agent):\n    raise ValueError('no')\n", "program_error"),
            ("async def solve(task, agent):\n    return 7\n", "program_malformed"),
            (
                "async def solve(task, agent):\n    while True:\n        await agent.generate(task.prompt)\n",
                "program_budget",
            ),
            ("import os\nasync def solve(task, agent):\n    os._exit(1)\n", "program_crash"),
        ],
    )
    def test_a_program_that_fails_is_a_typed_error_and_the_server_goes_on(
        self, source: str, code: str, computing: Callable[..., Serving]
    ) -> None:
        server = computing(source)
        told = asked(server, "What is the total of 1 and 2?")
        assert (told.status_code, told.json()["error"]["code"]) == (422, code)
        assert asked(server, "What is the total of 1 and 2?").status_code == 422
        assert server.figures()["busy"] == 0

    def test_a_client_that_leaves_lets_go_of_everything(self, computing: Callable[..., Serving]) -> None:
        server = computing(
            "async def solve(task, agent):\n"
            "    while True:\n"
            "        await agent.generate(task.prompt, n=32, temperature=1)\n"
        )
        body = json.dumps({"model": MODEL, "messages": user("What is the total of 1 and 2?")}).encode()
        with server.connect() as line:
            line.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            server.until(lambda figures: figures["requests"] == 1)
        server.until(lambda figures: figures["finished"] + figures["cancelled"] == 1 and not figures["busy"])
        assert asked(server, "What is the total of 1 and 2?").status_code == 422

    def test_an_answer_that_takes_too_long_is_a_timeout(self, computing: Callable[..., Serving]) -> None:
        server = computing(
            "import time\nasync def solve(task, agent):\n    await agent.generate('a')\n    while True: pass\n",
            limits=Limits(request_seconds=0.2, grace_seconds=1),
        )
        told = asked(server, "What is the total of 1 and 2?")
        assert (told.status_code, told.json()["error"]["code"]) == (504, "timeout")


def test_a_program_that_can_ask_nothing_gives_its_turn_back(
    planned: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise UsageError("the wording is for another model")

    with monkeypatch.context() as patch:
        patch.setattr(resolve, "prompts", missing)
        for _ in range(TOGETHER + 1):
            assert asked(planned, "rev:abc=").status_code == 500
    assert asked(planned, "rev:abc=").status_code == 200


class Connection:
    """A connection that counts how often what it asks was ended."""

    ended = 0

    def stop(self) -> None:
        self.ended += 1


class Connected:
    """A server with one connection."""

    def asked_by(self, client: object, tape: object) -> None: ...

    def settle(self) -> None: ...

    def give_back(self, client: object) -> None: ...


def test_a_task_that_has_ended_ends_nothing_that_the_next_one_asks() -> None:
    client = Connection()
    first, second = (
        ServedModel(cast("ChampionServer", Connected()), cast("Client", client)) for _ in range(2)
    )
    first.close()
    first.end()
    assert client.ended == 0
    second.end()
    assert client.ended == 1


def test_an_agent_of_ones_own_answers_with_its_suites_tools(
    engine: Engine, tmp_path: Path, serving: Start
) -> None:
    suite, agent = tmp_path / "sums", tmp_path / "agent"
    suite.mkdir()
    agent.mkdir()
    tasks = [{"id": f"t{n}", "prompt": f"Sum of {n} and 1?", "answer": str(n + 1)} for n in range(40)]
    (suite / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    (suite / "tools.py").write_text('def add(a: int, b: int) -> int:\n    """The sum."""\n    return a + b\n')
    (agent / "solve.py").write_text(
        "async def solve(task, agent):\n"
        "    words = task.prompt.rstrip('?').split()\n"
        "    return str(await agent.call('add', a=int(words[2]), b=int(words[4])))\n"
    )
    path = mv.evolve("small", cycles=0, out=tmp_path / "run", suite=suite, agent=agent).wait().path
    with RunStore.open(path) as store:
        programs: list[ServedProgram] = []

        def made() -> ServedProgram:
            programs.append(ServedProgram(store, MODEL))
            programs[0].deploy(read(store).variant(0))
            return programs[0]

        server = serving(engine, program=made)
        assert asked(server, "Sum of 40 and 2?").json()["choices"][0]["message"]["content"] == "42"
        programs[0].close()


def test_a_program_is_asked_for_by_name_only_where_one_is_served(engine: Engine, serving: Start) -> None:
    told = asked(serving(engine), "rev:abcd=")
    assert told.status_code == 404 and "--program" in told.json()["error"]["message"]


def test_skills_that_are_not_here_are_told_before_anything_is_served(tmp_path: Path) -> None:
    @mv.skill("shop/total", levels=(1, 1))
    def total(rng: Random, level: int) -> mv.Task:
        return mv.Task(prompt=f"What is {rng.randrange(10**6)}?", answer="x")

    settings = {"suite": {"name": "user", "levels": [1, 1], "sealed_per_cell": 1, "dev_per_cell": 1}}
    path = mv.evolve("small", cycles=0, out=tmp_path / "own", settings=settings).wait().path
    registry.forget("shop/total")
    with RunStore.open(path) as store, pytest.raises(UsageError, match="suite 'user' is empty"):
        ServedProgram(store, MODEL)
