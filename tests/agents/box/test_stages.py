"""Stages of an agent in boxes: an attempt that ended with an error runs again and is told it, within its own limits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from adding_endpoint import AddingEndpoint, running, suite_files  # noqa: E402
from boxed import ASK, Model, boxes, command, host, tasks  # noqa: E402
from command_line import call  # noqa: E402

from moevolve.agents.box.host import BoxHost  # noqa: E402
from moevolve.agents.box.records import Records, Repeats  # noqa: E402
from moevolve.agents.box.stages import STAGES, stages_of  # noqa: E402
from moevolve.agents.box.workspace import Workspace, take  # noqa: E402
from moevolve.agents.genome import Genome  # noqa: E402
from moevolve.errors import UsageError  # noqa: E402
from moevolve.protocol.completion import Completion  # noqa: E402
from moevolve.protocol.requests import GenerateRequest, Outcome  # noqa: E402

pytestmark = boxes

PARSES = f"{ASK}\nprint(int(say(sys.stdin.read())))\n"


class Careless(Model):
    """Says the sum in words unless it reads that this was an error."""

    def completion(self, request: GenerateRequest) -> Completion:
        assert not isinstance(request.prompt, str)
        text = request.prompt[-1].content
        right = "ValueError: invalid literal for int()" in text
        return replace(Completion("", [1, 2], [-0.5] * 3, "stop"), text="7" if right else "about seven")


def staged(script: str, retries: int, **settings: Any) -> Genome:
    return Genome(files={**command(script, **settings).files, STAGES: f"retries = {retries}\n"})


def solved(genome: Genome, model: Any, records: Records | None = None, **limits: Any) -> Outcome:
    made = host(**limits)
    made.boxes = BoxHost(records)
    [outcome] = made.solve(genome, tasks(1), model, None, [1])
    made.boxes.close()
    return outcome


@pytest.mark.parametrize("task", ["stdin", "argument", "file:task.txt", "json"])
def test_the_next_run_is_told_the_error_wherever_the_task_comes_in(task: str) -> None:
    read = {
        "stdin": "sys.stdin.read()",
        "argument": "sys.argv[-1]",
        "file:task.txt": "open('task.txt').read()",
        "json": "json.load(sys.stdin)['messages'][-1]['content']",
    }[task]
    script = f"{ASK}\nprint(int(say({read})))\n"
    once = solved(staged(script, 0, task=task), Careless())
    assert once.failure == "error" and "about seven" in once.detail
    again = solved(staged(script, 1, task=task), Careless())
    assert (again.answer, again.failure, again.requests, again.tokens) == ("7", None, 2, 6), again.detail


def test_a_class_is_told_too() -> None:
    source = f"{ASK}\nclass Solver:\n    def run(self, prompt):\n        return str(int(say(prompt)))\n"
    files = {"agent.toml": 'kind = "class"\nentry = "agent:Solver"\nimport = ["json"]\n', "agent.py": source}
    assert solved(Genome(files={**files, STAGES: "retries = 1\n"}), Careless()).answer == "7"


def test_what_failed_for_good_says_its_last_error() -> None:
    script = f"{ASK}\nsay('x')\nopen('left', 'x').write('')\nraise KeyError(len(sys.stdin.read()) > 20)\n"
    outcome = solved(staged(script, 2), Model())
    assert (outcome.failure, outcome.requests) == ("error", 3) and "KeyError: True" in outcome.detail


@pytest.mark.parametrize(
    ("script", "limits", "box", "failure"),
    [
        (f"{ASK}\nsay('x')\nraise SystemExit(1)\n", {"requests": 2}, {}, "budget"),
        ("import time\ntime.sleep(100)\n", {"seconds": 0.5}, {}, "timeout"),
        ("while True: print('x' * 1000)\n", {}, {"output_kb": 64}, "limit"),
    ],
)
def test_all_runs_have_one_attempts_limits_and_what_reached_one_does_not_run_again(
    script: str, limits: dict[str, Any], box: dict[str, Any], failure: str
) -> None:
    outcome = solved(staged(script, 4, limits=box), Model(), **limits)
    assert outcome.failure == failure and outcome.requests <= 2


def test_a_run_that_goes_on_hears_all_runs_and_a_replay_makes_them_again(tmp_path: Path) -> None:
    genome, file = staged(PARSES, 1), tmp_path / "record"
    first = solved(genome, Careless(), Records(file))
    heard = Careless()
    assert solved(genome, heard, Records(file)) == first and len(heard.asked) == 2
    repeats = Repeats()
    assert solved(genome, Careless(), Records(tmp_path / "other", file, repeats)) == first
    assert (repeats.executed, repeats.graded, repeats.drift) == (1, 0, 0)


class Wavering(Model):
    """Says one thing after another."""

    def __init__(self, *said: str) -> None:
        super().__init__()
        self.said = said

    def completion(self, request: GenerateRequest) -> Completion:
        text = self.said[(len(self.asked) - 1) % len(self.said)]
        return replace(Completion("", [1, 2], [-0.5] * 3, "stop"), text=text)


def voting(script: str, votes: int, retries: int = 0, **settings: Any) -> Genome:
    stages = f"votes = {votes}\nretries = {retries}\n"
    return Genome(files={**command(script, **settings).files, STAGES: stages})


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (["8", "7", "7"], "7"),
        (["8", "7", "9"], "8"),
        (["7", "8", "8", "7", "9"], "7"),
        (["no number", "8", "nothing", "7", "8"], "8"),
        (["no number", "none", "7"], "7"),
    ],
)
def test_the_commonest_answer_counts_of_equals_the_earliest_and_none_of_a_run_that_failed(
    said: list[str], answer: str
) -> None:
    outcome = solved(voting(PARSES, len(said)), Wavering(*said))
    assert (outcome.answer, outcome.failure, outcome.requests) == (answer, None, len(said)), outcome.detail


def test_each_run_is_tried_again_and_where_none_answers_the_last_error_is_told() -> None:
    outcome = solved(voting(PARSES, 2, retries=1), Wavering("a", "7", "b", "7"))
    assert (outcome.answer, outcome.requests) == ("7", 4)
    outcome = solved(voting(PARSES, 2, retries=1), Wavering("a", "b", "c", "d"))
    assert (outcome.failure, outcome.requests) == ("error", 4) and "'d'" in outcome.detail


def test_the_answer_that_counts_comes_with_what_its_run_left() -> None:
    script = f"{ASK}\nfound = say('x')\nopen('answer.txt', 'x').write('same')\nopen('by', 'x').write(found)\n"
    genome = voting(script, 3, answer="file:answer.txt")
    made = host()
    [outcome] = made.solve(genome, tasks(1), Wavering("first", "second", "third"), None, [1], workspaces=True)
    left = take(outcome.workspace)
    assert outcome.answer == "same" and left is not None and left.read("by", 100) == b"first"
    left.close()
    made.boxes.close()


@pytest.mark.parametrize("keep", [True, False])
def test_runs_that_agree_do_not_hold_a_workspace_each(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, close = [0], Workspace.close

    def counting(self: Workspace) -> None:
        closed[0] += 1
        close(self)

    class Watching(Wavering):
        def completion(self, request: GenerateRequest) -> Completion:
            before = len(self.asked) - 1
            assert before - closed[0] <= keep, "of the runs before this one at most one holds what it left"
            return super().completion(request)

    monkeypatch.setattr(Workspace, "close", counting)
    made = host()
    [outcome] = made.solve(voting(PARSES, 5), tasks(1), Watching("7"), None, [1], workspaces=keep)
    assert (outcome.answer, outcome.requests, closed[0]) == ("7", 5, 5 - keep), outcome.detail
    if (left := take(outcome.workspace)) is not None:
        left.close()
    made.boxes.close()


def test_votes_share_one_attempts_limits() -> None:
    outcome = solved(voting(PARSES, 9), Wavering("7"), requests=3)
    assert (outcome.failure, outcome.requests) == ("budget", 3)
    outcome = solved(voting("import time\ntime.sleep(0.4)\nprint(7)\n", 9), Model(), seconds=1.0)
    assert outcome.failure in (None, "timeout") and outcome.requests == 0


def test_a_replay_makes_all_votes_again(tmp_path: Path) -> None:
    genome, file = voting(PARSES, 3), tmp_path / "record"
    first = solved(genome, Wavering("8", "7", "7"), Records(file))
    heard = Wavering("8", "7", "7")
    assert solved(genome, heard, Records(file)) == first and len(heard.asked) == 3
    repeats = Repeats()
    again = solved(genome, Wavering("8", "7", "7"), Records(tmp_path / "other", file, repeats))
    assert again == first and (repeats.executed, repeats.graded, repeats.drift) == (1, 0, 0)


@pytest.mark.parametrize("text", ["votes = 0\n", "votes = 10\n", "votes = 'three'\n", "vote = 3\n"])
def test_stages_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="agent.stages.toml"):
        stages_of({STAGES: text})


class Telling(AddingEndpoint):
    """Adds in words unless it reads of the error."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        said = super().answer(body)
        text = "\n".join(str(message["content"]) for message in body["messages"])
        if "ValueError" not in text:
            said["choices"][0]["message"]["content"] = "about as much"
        return said


@pytest.mark.long
def test_a_run_without_a_model_that_proposes_learns_to_try_again(tmp_path: Path) -> None:
    toml = f'kind = "command"\nargv = ["python", "agent.py"]\nimport = ["http.client"]\nedit = ["{STAGES}"]\n'
    script = f"{ASK}\nprint(int(say(sys.stdin.read() + ' number alone')))\n"
    suite = {f"suite/{name}": text for name, text in suite_files(60).items()}
    for name, text in {"agent/agent.toml": toml, "agent/agent.py": script, **suite}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    settings = {"evolve.candidates": 3, "evolve.screen": 4, "attempts.tasks": 8, "seed": 3}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    with running(Telling()) as server:
        policy = ("--endpoint", server.url, "--model", "adder")
        done = call(
            tmp_path, "run", "small", "--agent", "agent", "--suite", "suite", *policy, *words, "--cycles", "1",
            "--out", "run", "--display", "none",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    told = json.loads(call(tmp_path, "diff", "run", "seed", "champion", "--json").stdout)
    assert f"+++ b/{STAGES}" in told["diff"] and "+retries = " in told["diff"]
