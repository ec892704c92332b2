"""`init`, `validate`, `tasks`, `eval` and `run` with an agent and a suite of somebody's own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from boxed import boxes  # noqa: E402
from command_line import Command  # noqa: E402
from scripted_endpoint import serving  # noqa: E402

from moevolve.agents.genome import load  # noqa: E402
from moevolve.agents.host import ProgramHost  # noqa: E402
from moevolve.cli.main import main  # noqa: E402
from moevolve.journal.control import Inbox, Request  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.protocol.completion import Completion  # noqa: E402
from moevolve.protocol.messages import Message, Tool, ToolCall  # noqa: E402
from moevolve.protocol.requests import GenerateRequest, PublicTask, ToolRequest  # noqa: E402
from moevolve.records import Imported, ProposerAsked, VariantAdded  # noqa: E402

TINY = [
    f"--set={setting}"
    for setting in (
        "attempts.tasks=12",
        "attempts.samples=2",
        "gate.min_n=8",
        "gate.max_n=16",
        "gate.batch=8",
        "evolve.candidates=1",
        "evolve.screen=8",
    )
]


def said(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def own(tmp_path: Path, moevolve: Command) -> Path:
    """The examples that `init` writes: an agent in `mine`, a suite in `dates`."""
    for kind, name in (("agent", "mine"), ("suite", "dates")):
        assert moevolve("init", kind, name).returncode == 0
    return tmp_path


class TestInit:
    def test_nothing_is_written_over(self, own: Path, moevolve: Command) -> None:
        (own / "mine" / "solve.py").write_text("# my work")
        done = moevolve("init", "agent", "mine")
        assert done.returncode == 2 and "--force" in done.stderr
        assert (own / "mine" / "solve.py").read_text() == "# my work"
        assert moevolve("init", "agent", "mine", "--force").returncode == 0
        assert "async def solve" in (own / "mine" / "solve.py").read_text()

    def test_a_configuration_takes_no_folder(self, moevolve: Command) -> None:
        done = moevolve("init", "agents", "mine")
        assert done.returncode == 2 and "init agent DIR" in done.stderr


class TestSuite:
    def test_the_example_proves_itself_and_says_what_it_can_detect(
        self, own: Path, moevolve: Command
    ) -> None:
        found = said(moevolve("validate", "dates", "--json"))
        assert found["ok"] and found["gate"]["tasks"] == 18 and 0.5 < found["gate"]["detectable"] < 0.9
        assert "which one decision spends" in moevolve("validate", "dates").stdout

    @boxes
    @pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no /dev/shm")
    def test_it_may_lie_where_boxes_have_folders_of_their_own(self, moevolve: Command) -> None:
        with TemporaryDirectory(dir="/dev/shm") as folder:
            assert moevolve("init", "suite", f"{folder}/dates").returncode == 0
            assert said(moevolve("validate", f"{folder}/dates", "--json"))["ok"]

    @pytest.mark.parametrize(
        "judged",
        ["scor", "float(task['expected'] == answer)"],
        ids=["a name that is none", "a field that is none"],
    )
    def test_a_check_that_always_raises_is_a_fault_with_its_reason(
        self, own: Path, moevolve: Command, judged: str
    ) -> None:
        (own / "dates" / "check.py").write_text(f"def check(task, answer, workspace):\n    return {judged}\n")
        rows = (own / "dates" / "tasks.jsonl").read_text().splitlines()
        bare = [{key: value for key, value in json.loads(row).items() if key != "answer"} for row in rows]
        (own / "dates" / "tasks.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in bare))
        done = moevolve("validate", "dates")
        assert done.returncode == 1
        assert "the check failed on every answer" in done.stderr and "Error" in done.stderr

    def test_tools_are_loaded_as_a_run_loads_them(self, own: Path, moevolve: Command) -> None:
        (own / "dates" / "tools.py").write_text("def many(*args): pass\n")
        done = moevolve("validate", "dates")
        assert done.returncode == 2 and "a tool's arguments all have names" in done.stderr

    def test_what_a_check_prints_is_no_data(self, own: Path, moevolve: Command) -> None:
        (own / "dates" / "check.py").write_text(
            "print('begun')\ndef check(task, answer, workspace):\n    print(answer)\n"
            "    return float(answer == task['answer'])\n"
        )
        assert said(moevolve("validate", "dates", "--json"))["ok"]
        assert said(moevolve("tasks", "dates", "--json"))["suite"] == "dates"

    def test_a_check_that_cannot_be_imported_is_named(self, own: Path, moevolve: Command) -> None:
        (own / "dates" / "check.py").write_text("import missing_module\ndef check(*_): return 1.0\n")
        done = moevolve("validate", "dates")
        assert done.returncode == 2 and "check.py cannot be imported: ModuleNotFoundError" in done.stderr

    def test_samples_are_at_least_one(self, own: Path, moevolve: Command) -> None:
        done = moevolve("validate", "primer", "--samples", "0")
        assert done.returncode == 2 and "at least 1" in done.stderr

    def test_a_check_that_takes_anything_is_named(self, own: Path, moevolve: Command) -> None:
        (own / "dates" / "check.py").write_text("def check(task, answer, workspace):\n    return 1.0\n")
        done = moevolve("validate", "dates")
        assert done.returncode == 1 and "cheap answer" in done.stderr

    def test_a_gold_answer_that_fails_is_named_by_its_id(self, own: Path, moevolve: Command) -> None:
        (own / "dates" / "check.py").write_text(
            "def check(task, answer, workspace):\n    return task['id'] != 'iso07'\n"
        )
        done = moevolve("validate", "dates")
        assert done.returncode == 1 and "first that of task 'iso07'" in done.stderr

    def test_tasks_are_listed_without_their_answers(self, own: Path, moevolve: Command) -> None:
        shown = said(moevolve("tasks", "dates", "-n", "2", "--json"))
        assert shown["skills"][0]["listed"] == {"train": 24, "dev": 6, "gate": 18, "sealed": 12}
        assert len(shown["tasks"]) == 2 and "answer" not in shown["tasks"][0]
        assert "answer" in said(moevolve("tasks", "dates", "--answers", "--json"))["tasks"][0]
        assert "skill 'dates/iso' has" in moevolve("tasks", "dates", "--level", "2").stderr.replace(
            "skill dates/iso", "skill 'dates/iso'"
        )

    def test_no_suite_says_how_to_begin_one(self, moevolve: Command) -> None:
        for words in (["tasks", "none"], ["validate", "none"], ["eval", "none"], ["run", "--suite", "none"]):
            done = moevolve(*words)
            assert done.returncode == 2 and "moevolve init suite" in done.stderr, words


class TestEval:
    def test_an_agent_is_scored_beside_the_bare_policy(self, own: Path, moevolve: Command) -> None:
        (own / "mine" / "solve.py").write_text(
            "import re\n"
            "MONTHS = 'January February March April May June July August September October November December'.split()\n"
            "async def solve(task, agent):\n"
            "    day, month, year = re.match(r'Write (\\d+) (\\w+) (\\d+)', task.prompt).groups()\n"
            "    return f'{year}-{MONTHS.index(month) + 1:02}-{int(day):02}'\n"
        )
        found = said(moevolve("eval", "dates", "--agent", "mine", "--attempts", "tries.jsonl", "--json"))
        assert (found["agent"]["score"], found["agent"]["n"], found["answers"]) == (1.0, 30, "any")
        assert found["bare"]["score"] < 0.2 and found["splits"] == ["train", "dev"]
        rows = [json.loads(line) for line in (own / "tries.jsonl").read_text().splitlines()]
        assert len(rows) == 60 and {row["who"] for row in rows} == {"agent", "bare"}

    def test_the_agent_asks_a_server_in_conversations(self, own: Path, moevolve: Command) -> None:
        with serving() as server:
            words = ["--endpoint", server.url, "--model", "scripted-1", "--set", "endpoint.retries=0"]
            found = said(moevolve("eval", "dates", "--agent", "mine", "--split", "dev", *words, "--json"))
        assert found["agent"]["n"] == 6
        systems = [
            body["messages"][0]["content"] for body in server.seen if body["messages"][0]["role"] == "system"
        ]
        assert any(text.startswith("Answer the question.") for text in systems)


class TestRun:
    def test_it_is_resumed_replayed_and_compared_wherever_it_lies(self, own: Path, moevolve: Command) -> None:
        words = ["--agent", "mine", "--suite", "dates", "--cycles", "1", *TINY, "--display", "none"]
        done = moevolve("run", "small", "--out", "run", *words)
        assert done.returncode == 0, done.stderr
        for name in ("mine", "dates"):
            (own / name).rename(own / f"gone-{name}")
        (own / "run").rename(own / "moved")
        assert moevolve("replay", "moved", "--display", "none").returncode == 0
        assert moevolve("audit", "moved").returncode == 0
        shown = said(moevolve("show", "moved", "--json"))
        assert (shown["suite"], shown["answers"], shown["score"]["n"]) == ("dates", "any", 12)
        assert (own / "moved" / "program" / "prompts" / "system.md").is_file()
        assert said(moevolve("eval", "gone-dates", "--run", "moved", "--json"))["agent"]["n"] == 30
        for setting in ("seed=3", "suite.levels=[1,1]", "policy.checkpoint=elsewhere"):
            done = moevolve("eval", "gone-dates", "--run", "moved", "--set", setting)
            assert done.returncode == 2 and setting.partition("=")[0] in done.stderr

    def test_runs_may_lie_in_the_folders_that_they_work_on(self, own: Path, moevolve: Command) -> None:
        both = [*TINY, "--cycles", "1", "--display", "none", "--agent", "mine", "--suite", "dates"]
        for name in ("mine/runs/a", "dates/runs/b"):
            done = moevolve("run", "small", "--out", name, *both)
            assert done.returncode == 0, done.stderr
            again = moevolve("replay", name, "--display", "none")
            assert again.returncode == 0, again.stderr
        assert not (own / "dates" / "runs" / "b" / "suite" / "runs").exists()

    def test_a_check_that_raises_is_on_record_and_the_same_elsewhere(
        self, own: Path, moevolve: Command
    ) -> None:
        (own / "dates" / "check.py").write_text(
            "def check(task, answer, workspace):\n"
            "    if sum(map(ord, task['id'])) % 3 == 0:\n        raise ValueError(f'no date: {object()}')\n"
            "    return answer == task['answer']\n"
        )
        words = ["--suite", "dates", "--cycles", "1", *TINY, "--display", "none"]
        assert moevolve("run", "small", "--out", "run", *words).returncode == 0
        assert said(moevolve("show", "run", "--json"))["guards"]["checks"]["vetoed"] > 0
        assert moevolve("replay", "run", "--display", "none").returncode == 0

    def test_a_suite_that_was_changed_since_is_refused(self, own: Path, moevolve: Command) -> None:
        words = ["--suite", "dates", "--cycles", "0", *TINY, "--display", "none"]
        assert moevolve("run", "small", "--out", "run", *words).returncode == 0
        (own / "run" / "suite" / "check.py").write_text(
            "def check(task, answer, workspace):\n    return 1.0\n"
        )
        done = moevolve("replay", "run", "--display", "none")
        assert done.returncode == 2 and "is not the suite that the run began with" in done.stderr


class TestTools:
    def test_the_shipped_tool_agent_calls_observes_and_answers(self, own: Path) -> None:
        turns = [
            Completion("", [1], [0.0], "tool_calls", (ToolCall(0, "iso", {"day": 1}, "c1"),)),
            Completion("", [1], [0.0], "tool_calls", (ToolCall(0, "none", {}, "c2"),)),
            Completion(" 2020-01-01 ", [1], [0.0], "stop"),
        ]
        assert main(["init", "agent", str(own / "tooled"), "--tools"]) == 0
        seen: list[GenerateRequest] = []

        def answer(requests: Sequence[GenerateRequest]) -> list[list[Completion]]:
            seen.extend(requests)
            return [[turns[len(seen) - 1]]]

        class Dates:
            tools = (Tool("iso", "A date.", {"type": "object"}),)

            def release(self, sessions: Iterable[int]) -> None:
                pass

            def call(self, requests: Sequence[ToolRequest]) -> list[object]:
                return ["2020-01-01" for _ in requests]

        [outcome] = ProgramHost(tools=Dates()).solve(
            load(own / "tooled"), [PublicTask(prompt="When?", skill="a/b")], answer, None, [1]
        )
        assert outcome.answer == "2020-01-01", outcome.detail
        said = [(m.role, m.content) for m in seen[-1].prompt if isinstance(m, Message)]
        assert said[-1][0] == "tool" and "no tool 'none'" in said[-1][1] and ("tool", "2020-01-01") in said

    def test_a_run_file_grants_functions_and_keeps_them(self, own: Path, moevolve: Command) -> None:
        (own / "more.py").write_text("def twice(text: str) -> str:\n    return text * 2\n")
        (own / "mine" / "solve.py").write_text(
            "async def solve(task, agent):\n    return await agent.call('twice', text='ab')\n"
        )
        words = ["--suite", "dates", "--agent", "mine", "--cycles", "1", *TINY, "--set=tools.path=more.py"]
        assert moevolve("run", "small", "--out", "run", *words, "--display", "none").returncode == 0
        (own / "more.py").write_text("def twice(text: str) -> str:\n    raise OSError\n")
        (own / "run").rename(own / "moved")
        assert moevolve("replay", "moved", "--display", "none").returncode == 0
        assert moevolve("resume", "moved", "--cycles", "+1", "--display", "none").returncode == 0
        with RunStore.open(own / "moved") as store:
            assert len(store.scan("calls")) > 1
        (own / "moved" / "tools" / "more.py").write_text("def twice(text: str) -> str:\n    return text\n")
        done = moevolve("resume", "moved", "--cycles", "+1", "--display", "none")
        assert done.returncode == 2 and "file of tools that the run began with" in done.stderr

    @pytest.mark.parametrize(
        ("suite", "file", "said"), [("primer", "more.py", "plans"), ("dates", "none.py", "no Python file")]
    )
    def test_functions_that_nobody_could_call_are_refused(
        self, suite: str, file: str, said: str, own: Path, moevolve: Command
    ) -> None:
        (own / "more.py").write_text("def twice(text: str) -> str:\n    return text * 2\n")
        done = moevolve("run", "small", "--suite", suite, "--out", "run", f"--set=tools.path={file}")
        assert done.returncode == 2 and said in done.stderr and not (own / "run").exists()

    def test_an_agent_calls_the_suites_functions_and_a_replay_calls_nobody(
        self, own: Path, moevolve: Command
    ) -> None:
        (own / "dates" / "tools.py").write_text(
            "from datetime import datetime\n"
            "def iso(day: int, month: str, year: int) -> str:\n"
            '    """A date as year-month-day."""\n'
            "    return datetime.strptime(f'{day} {month} {year}', '%d %B %Y').date().isoformat()\n"
        )
        (own / "mine" / "solve.py").write_text(
            "async def solve(task, agent):\n"
            "    _, day, month, year, *_ = task.prompt.split()\n"
            "    [tool] = await agent.tools('date')\n"
            "    assert tool['function']['parameters']['required'] == ['day', 'month', 'year']\n"
            "    return await agent.call('iso', day=int(day), month=month, year=int(year))\n"
        )
        assert said(moevolve("eval", "dates", "--agent", "mine", "--json"))["agent"]["score"] == 1.0
        words = ["--agent", "mine", "--suite", "dates", "--cycles", "1", *TINY, "--display", "none"]
        assert moevolve("run", "small", "--out", "run", *words).returncode == 0
        assert said(moevolve("show", "run", "--json"))["score"]["initial"] == 1.0
        assert moevolve("replay", "run", "--display", "none").returncode == 0
        assert moevolve("audit", "run").returncode == 0


@boxes
def test_a_check_sees_what_a_function_leaves_in_its_workspace(own: Path, moevolve: Command) -> None:
    (own / "mine" / "solve.py").write_text(
        "async def solve(task, agent):\n"
        "    await agent.workspace.write('notes/date.txt', task.prompt.upper())\n    return 'done'\n"
    )
    (own / "dates" / "check.py").write_text(
        "def check(task, answer, workspace):\n"
        "    return (workspace / 'notes/date.txt').read_text() == task['prompt'].upper()\n"
    )
    found = said(moevolve("eval", "dates", "--agent", "mine", "--json"))
    assert found["agent"]["score"] == 1.0


class TestImport:
    """A program from elsewhere is one of the next candidates, and no more than that."""

    @pytest.fixture
    def run(self, own: Path, moevolve: Command) -> Path:
        words = ["--agent", "mine", "--suite", "dates", "--cycles", "1", *TINY, "--display", "none"]
        assert moevolve("run", "small", "--out", "run", *words).returncode == 0
        return own / "run"

    def test_it_is_checked_screened_and_on_record_and_a_replay_has_it(
        self, own: Path, run: Path, moevolve: Command
    ) -> None:
        assert moevolve("export", "run", "--program", "out").returncode == 0
        solve = own / "out" / "solve.py"
        solve.write_text(
            solve.read_text() + "\n\nBORROWED = True\n\n\nasync def helps():\n    return BORROWED\n"
        )
        done = moevolve("import", "run", "out")
        assert done.returncode == 0 and "--cycles +1" in done.stderr
        assert moevolve("resume", "run", "--cycles", "+1", "--display", "none").returncode == 0
        with RunStore.open(run) as store:
            records = [record for _, record, _ in store.records()]
        [taken] = [record for record in records if isinstance(record, Imported)]
        assert taken.done, taken.detail
        [added] = [
            record for record in records if isinstance(record, VariantAdded) and record.operator == "imported"
        ]
        assert added.program == taken.program and added.score is not None
        assert moevolve("replay", "run", "--display", "none").returncode == 0
        assert moevolve("audit", "run").returncode == 0
        again = moevolve("import", "run", "out")
        assert again.returncode == 0
        assert moevolve("resume", "run", "--cycles", "+1", "--display", "none").returncode == 0
        with RunStore.open(run) as store:
            last = [record for _, record, _ in store.records() if isinstance(record, Imported)][-1]
        assert not last.done and f"the program of {added.variant}" in last.detail

    def test_what_the_agent_freezes_stays(self, own: Path, run: Path, moevolve: Command) -> None:
        (own / "mine" / "agent.toml").write_text('edit = ["prompts/*.md"]\n')
        done = moevolve("import", "run", "mine")
        assert done.returncode == 2 and "agent.toml says something else" in done.stderr
        assert not (run / "control").exists()

    def test_a_request_that_somebody_forged_costs_nothing(
        self, own: Path, run: Path, moevolve: Command
    ) -> None:
        Inbox(run).put(Request(command="import", files={"agent.toml": "edit = 3"}), 0)
        Inbox(run).put(Request(command="import", files={"solve.py": "def", "../x": ""}), 0)
        torn = {**load(own / "mine").files, "solve.py": "def"}
        Inbox(run).put(Request(command="import", files=torn), 0)
        assert moevolve("resume", "run", "--cycles", "+1", "--display", "none").returncode == 0
        with RunStore.open(run) as store:
            records = [record for _, record, _ in store.records()]
        assert [each.done for each in records if isinstance(each, Imported)] == [False, False, True]
        [asked] = [
            each for each in records if isinstance(each, ProposerAsked) and each.proposer == "imported"
        ]
        assert (asked.made, len(asked.broken)) == (0, 1)
        assert moevolve("replay", "run", "--display", "none").returncode == 0
