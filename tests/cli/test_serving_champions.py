"""Champions of runs on a server's model, on tools and on environments: served, tried with `generate`, scored, taken away."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from command_line import Command, call
from promotion import gated, variant
from served_command import Served

from moevolve.agents.genome import Genome
from moevolve.journal.store import RunStore
from moevolve.loop.variants import encode
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.records import Timing

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from adding_endpoint import GOOD, AddingEndpoint, adding, suite_files  # noqa: E402
from boxed import ASK, boxes  # noqa: E402

KEY = "sk-of-the-run-0123456789"
TOOLS = 'def add(a: int, b: int) -> int:\n    """The sum."""\n    return a + b\n'
FUNCTION = """async def solve(task, agent):
    system = {"role": "system", "content": agent.files["system.md"]}
    answer = await agent.generate([system, *task.messages], temperature=0)
    turns = f" of {len(task.messages)}" if len(task.messages) > 1 else ""
    return str(await agent.call("add", a=int(answer.text), b=0)) + turns
"""
DESK = """async def solve(task, agent):
    await agent.call("take", side="left")
    return str(await agent.call("take", side="right"))
"""
WORLD = '''import moevolve as mv


class Sums(mv.Environment):
    def setup(self, task):
        self.sides = {"left": task["left"], "right": task["right"]}
        self.total = 0

    def take(self, side: str) -> int:
        """Adds one side to the total."""
        self.total += self.sides[side]
        return self.total

    def score(self, task, answer):
        return float(answer == str(task["left"] + task["right"]))
'''
COMMAND = f"""{ASK}
import pathlib, time
task = sys.stdin.read()
if task == "sleep": time.sleep(100)
system = pathlib.Path(__file__).with_name("system.md").read_text()
print(say(f"{{task}} {{system}}"))
"""
SPLITS = suite_files(1)["suite.toml"]
SUM = "What is 4 plus 5?"


def write(folder: Path, **files: str) -> None:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture(scope="module")
def server() -> Iterator[AddingEndpoint]:
    with adding() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, server: AddingEndpoint) -> Callable[[str], Path]:
    """A folder with runs, each made when it is first needed."""
    folder = tmp_path_factory.mktemp("champions")
    plain = "".join(
        json.dumps({"id": f"t{n}", "prompt": f"What is {n} plus {n + 7}?", "answer": str(2 * n + 7)}) + "\n"
        for n in range(40)
    )
    worlds = "".join(
        json.dumps({"id": f"t{n}", "prompt": f"Sum {n}", "left": n, "right": n + 7}) + "\n" for n in range(40)
    )
    write(folder / "sums", tasks__jsonl=plain, suite__toml=SPLITS, tools__py=TOOLS)
    write(folder / "desk", tasks__jsonl=worlds, suite__toml=SPLITS, environment__py=WORLD)
    write(folder / "function", solve__py=FUNCTION, system__md=GOOD)
    write(folder / "worldly", solve__py=DESK)
    toml = 'kind = "command"\nargv = ["python", "agent.py"]\nimport = ["http.client", "json"]\n'
    write(folder / "command", agent__toml=toml, agent__py=COMMAND, system__md=GOOD)
    policy = ("--endpoint", server.url, "--model", "adder", "--key-env", "RUN_KEY")

    def made(name: str) -> Path:
        if not (folder / "runs" / name).exists():
            suite = "desk" if name == "worldly" else "sums"
            words = ("run", "small", "--agent", name, "--suite", suite, *policy, "--cycles", "0")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RUN_KEY", KEY)
                done = call(folder, *words, "--out", f"runs/{name}", "--display", "none")
            assert done.returncode == 0, done.stderr
        return folder / "runs" / name

    return made


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_KEY", KEY)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(*words: str | Path, **environment: str) -> Served:
        started.append(Served(tmp_path, *words, **environment))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def refusing(server: AddingEndpoint) -> Iterator[Callable[[int, str], None]]:
    """Lets the server of the runs refuse what it is asked."""

    def refuse(status: int, told: str) -> None:
        server.refusal = (status, told)

    yield refuse
    server.refusal = None


def chat(one: Served, *texts: str, **fields: Any) -> httpx2.Response:
    roles = ("user", "assistant")
    messages = [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)]
    model = one.told["model"]
    return one.client.post("/v1/chat/completions", json={"model": model, "messages": messages, **fields})


def answer(response: httpx2.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


class TestFunction:
    def test_the_champion_answers_through_the_runs_server_with_the_runs_tools(
        self, runs: Callable[[str], Path], served: Callable[..., Served], server: AddingEndpoint
    ) -> None:
        one = served(runs("function"))
        assert one.told["model"] == "function+program"
        told = chat(one, SUM)
        assert answer(told) == "9"
        assert told.json()["program"]["variant"] == "v0000"
        assert told.json()["usage"]["completion_tokens"] > 0
        assert answer(one.client.post("/v1/chat/completions", json={"messages": told_again(SUM)})) == "9"
        assert [each["id"] for each in one.client.get("/v1/models").json()["data"]] == ["function+program"]
        assert server.keys == {f"Bearer {KEY}"}
        for path in ("/v1/usage", "/metrics", "/health"):
            assert one.client.get(path).status_code == 200
        for path, body in (
            ("/v1/completions", {"prompt": "x"}),
            ("/v1/embeddings", {"input": "x"}),
            ("/tokenize", {"prompt": "x"}),
            ("/v1/responses", {"input": "x"}),
            ("/v1/chat/completions", {"model": "function", "messages": told_again("x")}),
        ):
            refused = one.client.post(path, json=body)
            assert refused.status_code in (400, 404) and "function+program" in refused.text, path
        code, said = one.end(signal.SIGTERM)
        assert code == 0 and "through adder at" in said and KEY not in said

    def test_a_conversation_is_a_task_as_it_would_be_in_the_suite(
        self, runs: Callable[[str], Path], served: Callable[..., Served]
    ) -> None:
        one = served(runs("function"))
        assert answer(chat(one, SUM, "9", "Again?")) == "9 of 3"
        said = chat(one, SUM, "9")
        assert (said.status_code, said.json()["error"]["param"]) == (400, "messages")

    @pytest.mark.parametrize(
        "field",
        [
            {"response_format": {"type": "json_object"}},
            {"min_tokens": 2},
            {"reasoning_effort": "high"},
            {"parallel_tool_calls": False},
            {"metadata": {"task": {"left": 1}}},
        ],
    )
    def test_what_would_change_an_answer_is_refused_by_its_name(
        self, field: dict[str, Any], runs: Callable[[str], Path], served: Callable[..., Served]
    ) -> None:
        refused = chat(served(runs("function")), SUM, **field)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"].split(".")[0] == next(iter(field))

    def test_errors_of_the_runs_server_are_typed_and_hold_no_key(
        self,
        runs: Callable[[str], Path],
        served: Callable[..., Served],
        refusing: Callable[[int, str], None],
        server: AddingEndpoint,
    ) -> None:
        one = served(runs("function"))
        refusing(401, '{"error": {"message": "KEY is no key of ours"}}')
        gone = chat(one, SUM)
        assert (gone.status_code, gone.json()["error"]["code"]) == (502, "endpoint_failed")
        refusing(400, '{"error": {"message": "KEY may not ask this"}}')
        rejected = chat(one, SUM)
        assert (rejected.status_code, rejected.json()["error"]["code"]) == (422, "program_rejected")
        server.refusal = None
        assert answer(chat(one, SUM)) == "9"
        _, said = one.end(signal.SIGTERM)
        assert "the server does not accept the key" in said
        assert not any(KEY in text or server.url in text for text in (gone.text, rejected.text))
        assert KEY not in said

    def test_a_client_that_leaves_ends_the_call_and_the_server_ends_with_a_signal(
        self, runs: Callable[[str], Path], served: Callable[..., Served], server: AddingEndpoint
    ) -> None:
        one = served(runs("function"), "--grace", "0.2")
        server.loud.clear()
        for _ in range(6):  # more than programs at one time
            with pytest.raises(httpx2.ReadTimeout):
                body = {"messages": told_again(SUM)}
                httpx2.post(f"{one.told['url']}/v1/chat/completions", json=body, timeout=0.5)
        server.loud.set()
        assert answer(chat(one, SUM)) == "9"
        server.loud.clear()
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(chat(one, SUM).status_code))
        before = one.client.get("/v1/usage").json()["requests"]
        waiting.start()
        while one.client.get("/v1/usage").json()["requests"] == before:
            pass
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(30) == 0
        waiting.join()
        server.loud.set()
        assert answers == [503]

    def test_a_run_is_followed_to_its_next_champion(
        self, runs: Callable[[str], Path], served: Callable[..., Served], tmp_path: Path
    ) -> None:
        shutil.copytree(runs("function"), tmp_path / "followed")
        one = served(tmp_path / "followed", "--follow")
        assert answer(chat(one, SUM)) == "9"
        with RunStore.open(tmp_path / "followed", write=True) as store:
            source = "async def solve(task, agent):\n    return 'new'\n"
            program = store.put_blob(encode(Genome(files={"solve.py": source})))
            more = {"program": program, "level": "program"}
            records = [variant("v0001", "endpoint:adder", **more), gated("v0001", level="program")]
            store.append(records, Timing(at=1.0))
        while answer(told := chat(one, SUM)) == "9":
            pass
        assert answer(told) == "new" and told.json()["program"]["variant"] == "v0001"

    def test_without_its_key_nothing_is_served(
        self, runs: Callable[[str], Path], moevolve: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RUN_KEY")
        for words in (("serve", "--port", "0"), ("generate", SUM, "--model")):
            refused = moevolve(*words, runs("function"))
            assert refused.returncode == 2 and "RUN_KEY" in refused.stderr

    def test_where_weights_are_wanted_it_is_said_what_there_is(
        self, runs: Callable[[str], Path], moevolve: Command
    ) -> None:
        run = runs("function")
        for words in (("eval", run.parents[1] / "sums", "--model", run), ("serve", "--learn", run)):
            refused = moevolve(*words)
            assert refused.returncode == 2 and "moevolve generate --model RUN" in refused.stderr

    def test_generate_lets_the_program_answer(self, runs: Callable[[str], Path], moevolve: Command) -> None:
        run = runs("function")
        assert moevolve("generate", "--model", run, SUM).stdout == "9\n"
        told = moevolve("generate", "--model", run, "--program", "--json", "-n", "2", SUM, "What is one?")
        first, second = json.loads(told.stdout)
        assert [each["text"] for each in first["completions"]] == ["9", "9"]
        assert second["completions"][0]["text"] == "0" and told.returncode == 0
        refused = moevolve("generate", "--model", run, "--temperature", "1", SUM)
        assert refused.returncode == 2 and "--temperature" in refused.stderr
        assert moevolve("generate", "--program", SUM).returncode == 2
        unknown = moevolve("generate", "--model", run, "--program", "--skill", "sums/none", SUM)
        assert unknown.returncode == 2 and "sums/tasks" in unknown.stderr

    def test_it_is_scored_and_taken_away(
        self, runs: Callable[[str], Path], moevolve: Command, server: AddingEndpoint
    ) -> None:
        run = runs("function")
        suite = run.parents[1] / "sums"
        scored = moevolve("eval", suite, "--run", run, "--split", "train", "--json")
        assert json.loads(scored.stdout)["agent"]["score"] == 1.0
        assert moevolve("export", run, "--agent", "taken").returncode == 0
        policy = ("--endpoint", server.url, "--model", "adder")
        again = moevolve("eval", suite, "--agent", "taken", *policy, "--split", "train", "--json")
        assert json.loads(again.stdout)["agent"]["score"] == 1.0


def test_generate_lets_the_program_of_a_run_on_weights_answer(moevolve: Command) -> None:
    assert moevolve("run", "small", "--cycles", "0", "--out", "run", "--display", "none").returncode == 0
    told = moevolve("generate", "--model", "run", "--program", "--json", "rev:abcd=")
    [row] = json.loads(told.stdout)
    assert row["completions"][0]["text"] == "dcba" and row["completions"][0]["requests"] == 1
    refused = moevolve("generate", "--model", "run", "--program", "What is two and two?")
    assert refused.returncode == 2 and "--skill" in refused.stderr
    short = moevolve("generate", "--model", "run", "--program", "--max-tokens", "4", "rev:abcd=")
    assert short.returncode == 1 and "has no answer, budget" in short.stderr and short.stdout == ""


def test_a_model_here_is_scored_on_a_suite_of_ones_own(
    runs: Callable[[str], Path], moevolve: Command
) -> None:
    suite = runs("function").parents[1] / "sums"
    scored = moevolve(
        "eval",
        suite,
        "--model",
        seed_checkpoint(),
        "--split",
        "train",
        "--json",
        "--set",
        "wording.style=bare",
    )
    assert scored.returncode == 0 and json.loads(scored.stdout)["bare"]["n"] > 0, scored.stderr


def told_again(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class TestWorlds:
    def test_each_task_has_a_world_that_begins_with_what_the_client_says(
        self, runs: Callable[[str], Path], served: Callable[..., Served]
    ) -> None:
        one = served(runs("worldly"))
        for seed in (1, 1, 2):
            both = chat(one, "Sum", metadata={"task": {"left": 4, "right": 5}}, seed=seed, n=2).json()
            assert [each["message"]["content"] for each in both["choices"]] == ["9", "9"]
        refused = chat(one, "Sum").json()["error"]
        assert refused["param"] == "metadata.task"
        assert "Sums cannot begin with this task (KeyError: 'left')" in refused["message"]

    def test_generate_takes_what_a_world_begins_with_from_its_file(
        self, runs: Callable[[str], Path], moevolve: Command
    ) -> None:
        lines = '{"prompt": "Sum", "task": {"left": 4, "right": 5}}\n{"prompt": "Sum"}\n'
        told = moevolve("generate", "--model", runs("worldly"), "--file", "-", stdin=lines.splitlines()[0])
        assert told.stdout == "9\n", told.stderr
        refused = moevolve("generate", "--model", runs("worldly"), "--file", "-", stdin=lines)
        assert refused.returncode == 2 and "Sums cannot begin" in refused.stderr


@boxes
class TestBoxes:
    def test_a_command_answers_each_client_in_a_box(
        self, runs: Callable[[str], Path], served: Callable[..., Served], moevolve: Command
    ) -> None:
        one = served(runs("command"), "--grace", "0.2")
        assert (
            answer(chat(one, SUM)) == "9" == answer(chat(one, SUM, seed=1)) == answer(chat(one, SUM, seed=1))
        )
        refused = chat(one, SUM, "9", "Again?")
        assert refused.status_code == 400 and 'task = "json"' in refused.json()["error"]["message"]
        for _ in range(6):
            with pytest.raises(httpx2.ReadTimeout):
                body = {"messages": told_again("sleep")}
                httpx2.post(f"{one.told['url']}/v1/chat/completions", json=body, timeout=0.5)
        assert answer(chat(one, SUM)) == "9", "boxes end with the clients that wait for them"
        assert moevolve("generate", "--model", runs("command"), SUM).stdout == "9\n"
        assert one.end(signal.SIGTERM)[0] == 0
