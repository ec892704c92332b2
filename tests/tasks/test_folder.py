"""Suites of a user's own: folders of listed tasks, and Python files."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from rooms import ASKED, conversations  # noqa: E402

from moevolve.config import Config  # noqa: E402
from moevolve.errors import UsageError  # noqa: E402
from moevolve.loop import resolve  # noqa: E402
from moevolve.rollouts.grading import Given, SealedGrader  # noqa: E402
from moevolve.tasks import folder, registry  # noqa: E402
from moevolve.tasks.listed import LISTED_SHARES, listed, quotas  # noqa: E402
from moevolve.tasks.splits import SPLITS  # noqa: E402
from moevolve.tasks.suite import suite  # noqa: E402
from moevolve.tasks.task import Task  # noqa: E402


def rows(count: int = 30, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"t{index}", "prompt": f"What is {index} + 1?", "answer": str(index + 1)} | more
        for index in range(count)
    ]


def renamed(tasks: list[dict[str, Any]], mark: str, **more: Any) -> list[dict[str, Any]]:
    return [task | {"id": mark + task["id"], "prompt": mark + task["prompt"]} | more for task in tasks]


def written(
    path: Path, tasks: list[dict[str, Any]], check: str | None = None, settings: str | None = None
) -> Path:
    path.mkdir(exist_ok=True)
    (path / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    for name, text in (("check.py", check), ("suite.toml", settings)):
        if text is not None:
            (path / name).write_text(text)
    return path


WORLD = """
from moevolve.tasks.environment import Environment

class World(Environment):
    def score(self, task, answer):
        return 1.0
"""


class TestFolder:
    def test_three_keys_a_line_are_a_suite(self, tmp_path: Path) -> None:
        own = folder.load(written(tmp_path / "support", rows()))
        assert (own.name, list(own.skills), own.answers) == ("support", ["support/tasks"], "any")
        task = own.draw("train", "support/tasks", 1, "x")
        assert task.answer is not None
        assert own.grade(task, task.answer).success and not own.grade(task, "no").success
        assert own.task(task.skill, task.level, task.seed) == task

    def test_what_suite_toml_says_is_in_force(self, tmp_path: Path) -> None:
        settings = """
            name = "desk"
            summary = "counting"
            [splits]
            train = 0.5
            gate = 0.25
            sealed = 0.25
            [skills."desk/sums"]
            summary = "adding"
        """
        tasks = rows(20, skill="sums") + renamed(rows(20), "u", skill="other/sums")
        own = folder.load(written(tmp_path / "x", tasks, settings=settings))
        said = {path: leaf.summary for path, leaf in own.skills.items()}
        assert said == {"desk/sums": "adding", "other/sums": "counting"}
        assert [own.spread(split, 8).count(("desk/sums", 1)) for split in SPLITS] == [10, 0, 5, 5]

    def test_levels_are_those_of_the_suites_tasks(self, tmp_path: Path) -> None:
        tasks = rows(8, level=1) + renamed(rows(8), "b", level=2) + renamed(rows(2), "c", level=3)
        own = folder.load(written(tmp_path / "s", tasks, settings="levels = [2, 2]"))
        assert [leaf.levels for leaf in own.skills.values()] == [(2, 2)]
        assert all(task.prompt.startswith("b") for task in own.sample("train", own.spread("train", 8)))

    def test_tools_name_files_in_the_folder(self, tmp_path: Path) -> None:
        path = written(tmp_path / "s", rows())
        (path / "more").mkdir()
        for name in ("tools.py", "more/sums.py"):
            (path / name).write_text("def total(a: int) -> int:\n    return a\n")
        assert folder.load(path).tools == (path / "tools.py",)
        (path / "suite.toml").write_text('tools = ["more/sums.py"]')
        assert folder.load(path).tools == (path / "more/sums.py",)
        (path / "suite.toml").write_text("tools = []")
        assert folder.load(path).tools == ()

    def test_limits_are_those_of_a_run_that_sets_no_others(self, tmp_path: Path) -> None:
        limits = "[limits]\nrequests = 3\nmax_tokens = 40\nmemory_mb = 128\ncheck_seconds = 30"
        path = written(tmp_path / "s", rows(), settings=limits)
        on = {"suite.path": str(path)}

        def bounds(config: Config) -> tuple[float | None, ...]:
            solver, sandbox = config.roles.solver, config.sandbox
            return solver.requests, solver.max_tokens, sandbox.memory_mb, sandbox.check_seconds

        begun = resolve.with_files(Config.load("small", on))
        assert bounds(begun) == (3, 40, 128, 30.0)
        assert bounds(resolve.with_files(begun)) == bounds(begun)
        others = {"roles.solver.requests": 5, "sandbox.check_seconds": 2.0}
        assert bounds(resolve.with_files(Config.load("small", on | others))) == (5, 40, 128, 2.0)
        with pytest.raises(UsageError, match="limits of suite s: .*max_tokens is 40, below least_tokens, 50"):
            resolve.with_files(
                Config.load("small", on | {"roles.solver.least_tokens": 50, "roles.solver.requests": 9})
            )

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ("levels = [3, 2]", r"levels: they are \[lowest, highest\]"),
            ("levels = [2, 3]", "levels: skill s/tasks has no task of level 2 to 3, but of 1"),
            ('tools = ["none.py"]', "tools: 'none.py' is no Python file in the suite's folder"),
            ('tools = ["../outside.py"]', "tools: '../outside.py' is no Python file in the suite's folder"),
            ('tools = ["tasks.jsonl"]', "tools: 'tasks.jsonl' is no Python file"),
            ('answers = "policy"\ntools = ["tools.py"]', "answers are plans, which call no tools"),
            ("[limits]\ndisk_mb = 3", "disk_mb"),
            ("[limits]\nrequests = -1", "requests"),
        ],
    )
    def test_what_suite_toml_cannot_say_is_refused_by_name(
        self, tmp_path: Path, settings: str, said: str
    ) -> None:
        (tmp_path / "outside.py").write_text("")
        with pytest.raises(UsageError, match=f"suite.toml: .*{said}"):
            folder.load(written(tmp_path / "s", rows(), settings=settings))

    def test_a_check_gets_the_whole_row_and_may_give_part(self, tmp_path: Path) -> None:
        check = """def check(task, answer, workspace):
            return 0.5 if answer == task["other"] else answer == task["answer"]"""
        own = folder.load(written(tmp_path / "s", rows(other="half"), check))
        task = own.draw("gate", "s/tasks", 1)
        answers = (task.answer or "", "half", "no")
        assert [own.grade(task, answer).score for answer in answers] == [1.0, 0.5, 0.0]

    def test_a_conversation_is_a_task(self, tmp_path: Path) -> None:
        task = folder.load(written(tmp_path / "s", conversations(8))).draw("train", "s/tasks", 1)
        assert task.prompt == ASKED and task.messages[0].content == f"The room is {task.answer}."

    @pytest.mark.parametrize(
        ("tasks", "message"),
        [
            ([], "holds no task"),
            (rows(3), "has 3 tasks of level 1, of 4 needed"),
            (rows(8) + rows(1), "tasks.jsonl:9: its id is that of line 1"),
            (rows(8) + [rows(1)[0] | {"id": "new"}], "tasks.jsonl:9: it asks what line 1 asks"),
            ([{"id": "a", "answer": "1"}], "either `prompt` or `messages`"),
            ([{"id": "a", "prompt": 3}], "tasks.jsonl:1: Expected `str | null`, got `int`"),
            ([{"id": "a", "prompt": "x"}], "has no `answer`"),
            (rows(8, skill="Bad Skill"), "cannot name a skill"),
            (rows(8, level=1) + renamed(rows(8), "l", level=3), "0 tasks of level 2"),
            ([{"id": "a", "messages": [{"role": "assistant"}], "answer": "1"}], "end with the user's"),
        ],
    )
    def test_what_cannot_be_used_is_named_with_its_line(
        self, tasks: list[dict[str, Any]], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match=re.escape(message)):
            folder.load(written(tmp_path / "s", tasks))

    def test_files_as_other_programs_save_them_are_read(self, tmp_path: Path) -> None:
        lines = [json.dumps(row | {"note": "a\u2028b\x85c"}, ensure_ascii=False) for row in rows(8)]
        path = written(tmp_path / "s", [])
        (path / "tasks.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
        (path / "suite.toml").write_bytes(b"\xef\xbb\xbf" + b"name = 'saved'\r\n")
        assert sum(len(folder.load(path).spread(split, 1)) for split in SPLITS) == 8

    def test_a_check_imports_what_stands_beside_it_and_no_other_suites(self, tmp_path: Path) -> None:
        check = "from helper import norm\ndef check(task, answer, workspace):\n    return norm(answer) == task['answer']\n"
        suites = []
        for name, body in (("one", "text.strip()"), ("two", "text.strip().rstrip('!')")):
            path = written(tmp_path / name, rows(8), check)
            (path / "helper.py").write_text(f"def norm(text):\n    return {body}\n")
            suites.append(folder.load(path))
        tasks = [own.draw("gate", f"{own.name}/tasks", 1) for own in suites]
        said = [
            SealedGrader(own).grade([Given(task, f"{task.answer}!", 0)], ("x",))[0]
            for own, task in zip(suites, tasks, strict=True)
        ]
        assert [verdict.success for verdict in said] == [False, True]
        assert "helper" not in sys.modules

    def test_tasks_of_one_prompt_are_told_apart_by_their_files_and_their_world(self, tmp_path: Path) -> None:
        path = written(tmp_path / "s", [row | {"prompt": "Fix it.", "files": row["id"]} for row in rows(8)])
        for row in rows(8):
            (path / "files" / row["id"]).mkdir(parents=True)
            (path / "files" / row["id"] / ".env").write_text(row["id"])
        own = folder.load(path)
        homes = [own.keyed(secret * 16)["s/tasks"].listed.homes for secret in (b"a", b"b")]  # type: ignore[union-attr]
        assert homes[0] != homes[1], "the secret decides, and not the order of the lines"
        world = written(
            tmp_path / "w", [row | {"prompt": "Close all.", "open": row["id"]} for row in rows(8)]
        )
        (world / "environment.py").write_text(WORLD)
        assert len(folder.load(world)["w/tasks"].listed.tasks[1]) == 8  # type: ignore[union-attr]
        same = [row | {"prompt": "Close all.", "open": row["id"]} for row in rows(8)]
        with pytest.raises(UsageError, match="it asks what line 1 asks"):
            folder.load(written(tmp_path / "n", same))

    def test_a_runs_copy_has_the_files_of_tasks_hidden_or_not_and_may_execute_them(
        self, tmp_path: Path
    ) -> None:
        path = written(tmp_path / "s", [row | {"files": "d"} for row in rows(8)])
        for name in ("files/d/.env", "files/d/run.sh", ".git/config"):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text("#!/bin/sh\n")
        (path / "files" / "d" / "run.sh").chmod(0o755)
        before = folder.digest(path)
        folder.copy(path, tmp_path / "copy")
        assert folder.digest(tmp_path / "copy") == before
        assert os.access(tmp_path / "copy" / "files" / "d" / "run.sh", os.X_OK)
        assert not (tmp_path / "copy" / ".git").exists()
        files = [
            folder.load(each, "s").draw("train", "s/tasks", 1).files for each in (path, tmp_path / "copy")
        ]
        assert [name for name, _ in files[0].read()] == [".env", "run.sh"]  # type: ignore[union-attr]
        assert files[0].read() == files[1].read()  # type: ignore[union-attr]
        (path / "files" / "d" / ".env").write_text("other")
        assert folder.digest(path) != before

    def test_a_line_that_is_no_json_is_named(self, tmp_path: Path) -> None:
        written(tmp_path / "s", rows())
        (tmp_path / "s" / "tasks.jsonl").write_text(json.dumps(rows(1)[0]) + '\n{"id":\n')
        with pytest.raises(UsageError, match="tasks.jsonl:2"):
            folder.load(tmp_path / "s")

    def test_a_check_that_cannot_be_imported_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="check.py cannot be imported: SyntaxError"):
            folder.load(written(tmp_path / "s", rows(), "def check(:"))
        with pytest.raises(UsageError, match="defines no function check"):
            folder.load(written(tmp_path / "s", rows(), "x = 1"))

    @pytest.mark.parametrize("text", ["-" * 5000 + "1\n", "(" * 300 + "1" + ")" * 300])
    def test_a_check_that_nests_deeper_than_python_reads_is_named(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(UsageError, match="check.py cannot be imported: [MRS]"):
            folder.load(written(tmp_path / "s", rows(), text))

    def test_a_folder_without_a_suite_says_how_to_begin_one(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="moevolve init suite"):
            folder.load(tmp_path / "none")
        with pytest.raises(UsageError, match="is no suite"):
            folder.load(tmp_path)

    def test_the_digest_is_that_of_the_files(self, tmp_path: Path) -> None:
        one, two = written(tmp_path / "one", rows()), written(tmp_path / "two", rows())
        assert folder.digest(one) == folder.digest(two)
        (two / "__pycache__").mkdir()
        (two / "__pycache__" / "x.pyc").write_bytes(b"x")
        assert folder.digest(one) == folder.digest(two)
        (two / "check.py").write_text("")
        assert folder.digest(one) != folder.digest(two)
        (one / "answers").symlink_to("/etc/passwd")
        with pytest.raises(UsageError, match="leads out of the suite's folder"):
            folder.digest(one)

    def test_a_run_that_lies_in_the_folder_is_no_part_of_it(self, tmp_path: Path) -> None:
        """As where one stands in a suite's folder and runs it: its runs lie below."""
        suite_alone = written(tmp_path / "s", rows())
        before = folder.digest(suite_alone)
        (suite_alone / "runs" / "a" / "journal").mkdir(parents=True)
        (suite_alone / "runs" / "a" / "journal" / "data.mdb").write_bytes(b"x")
        (suite_alone / "runs" / "a" / "run.toml").write_text("")
        assert folder.digest(suite_alone) == before
        folder.copy(suite_alone, tmp_path / "copy")
        assert {path.name for path in (tmp_path / "copy").iterdir()} == {"tasks.jsonl"}

    def test_an_opened_suite_is_known_by_name_and_digest(self, tmp_path: Path) -> None:
        own, content = folder.opened(written(tmp_path / "s", rows()))
        assert suite(f"s@{content}") is own


class TestPythonFile:
    def test_its_skills_are_a_suite(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(
            """
import moevolve as mv

@mv.skill("mine/echo", levels=(1, 2))
def echo(rng, level):
    n = rng.randrange(10**9)
    return mv.Task(prompt=f"{n}", answer=f"{n}")
"""
        )
        try:
            own = folder.load(file)
            assert list(own.skills) == ["mine/echo"]
            assert own.draw("train", "mine/echo", 1).prompt.isdigit()
        finally:
            registry.forget("mine/echo")

    def test_a_file_without_skills_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("x = 1\n")
        with pytest.raises(UsageError, match="defines no skill"):
            folder.load(tmp_path / "mine.py")


class TestListed:
    @given(st.integers(0, 300), st.sets(st.sampled_from(SPLITS), min_size=1))
    def test_quotas_are_whole_and_leave_nobody_out(self, count: int, wanted: set[str]) -> None:
        shares = {split: LISTED_SHARES[split] for split in SPLITS if split in wanted}
        counts = quotas(count, shares)
        assert sum(counts.values()) == count
        assert all(counts[split] == 0 for split in SPLITS if split not in wanted)
        if count >= len(wanted):
            total = sum(shares.values())
            for split, share in shares.items():
                assert counts[split] >= 1
                assert abs(counts[split] - share / total * count) <= len(wanted)

    def test_each_task_is_in_one_split_and_comes_once_before_any_comes_again(self, tmp_path: Path) -> None:
        own = folder.load(written(tmp_path / "s", rows(40)))
        seen: dict[str, str] = {}
        for split in SPLITS:
            cells = own.spread(split, 8)
            size, drawn = len(cells), own.sample(split, cells * 2, "seed")
            assert len({task.prompt for task in drawn[:size]}) == size == len({task.prompt for task in drawn})
            for task in drawn:
                assert seen.setdefault(task.prompt, split) == split
        assert len(seen) == 40

    def test_the_order_of_lines_decides_nothing(self) -> None:
        tasks = [Task(prompt=str(n), answer="x") for n in range(50)]
        first, second = (listed({1: order}) for order in (tasks, tasks[::-1]))
        for split in SPLITS:
            prompts = [{of.tasks[1][n].prompt for n in of.homes[1][split]} for of in (first, second)]
            assert prompts[0] == prompts[1]


def test_a_prerequisite_without_tasks_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    rows = [{"id": f"{n}", "skill": "math/add", "prompt": f"p{n}", "answer": "x"} for n in range(8)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = tmp_path / "suite.toml"
    settings.write_text('[skills."math/add"]\nrequires = ["math/ad"]\n', encoding="utf-8")
    with pytest.raises(UsageError, match="math/ad.*math/add"):
        folder.load(tmp_path)
