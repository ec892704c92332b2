"""A run's champion is evaluated under the run's own settings, and on no task that the run keeps for itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import moevolve as mv
from moevolve.config import Config
from moevolve.errors import ConfigError, DivergedError, UsageError
from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop import champion, resolve
from moevolve.loop.evaluation import Evaluation, Split, evaluate
from moevolve.records import Lesson, RunStarted
from moevolve.tasks.listed import Listed

SEED = 7
LESSON = Lesson(
    id="one",
    skill="mine/words",
    level=1,
    text="x",
    prompt="",
    answer="x",
    success=True,
    run="run",
    cycle=3,
    variant="v0000",
)


def suite(folder: Path, skill: str = "words") -> Path:
    folder.mkdir()
    rows = [
        {
            "id": f"{level}-{number}",
            "skill": skill,
            "level": level,
            "prompt": f"{skill} {level}.{number}",
            "answer": "x",
        }
        for level in (1, 2)
        for number in range(24)
    ]
    (folder / "tasks.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluated")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run of no cycle, on the first level of a suite whose folder is gone since."""
    suite(folder / "mine")
    settings = {"roles.solver.max_tokens": 12, "suite.levels": (1, 1), "policy.threads": 1}
    mv.evolve(
        "small", out=folder / "run", seed=SEED, cycles=0, suite=folder / "mine", settings=settings
    ).wait()
    return folder / "run"


def scored(
    run: Path, settings: Mapping[str, Any], splits: tuple[Split, ...] = ("train", "dev"), seed: int = 0
) -> Evaluation:
    return evaluate(champion.configuration(run, settings), splits, 4, run, seed=seed)


def started(run: Path) -> RunStarted:
    with RunStore.open(run) as store:
        return read(store).started


def split(run: Path, name: str) -> set[str]:
    """The prompts that a run has in a split."""
    config = resolve.on_record(started(run), run)
    prompts = set()
    for skill in resolve.suite(config).skills.values():
        listed: Listed | None = skill.listed
        assert listed is not None
        for level in range(skill.levels[0], skill.levels[1] + 1):
            prompts |= {listed.tasks[level][index].prompt for index in listed.homes[level][name]}
    return prompts


@pytest.mark.parametrize("seed", [0, 1, SEED])
def test_what_a_run_keeps_sealed_stays_so(run: Path, folder: Path, seed: int) -> None:
    found = scored(run, {"suite.path": str(folder / "mine")}, seed=seed)
    assert {attempt.task.prompt for attempt in found.agent.attempts} == split(run, "train") | split(
        run, "dev"
    )
    with pytest.raises(UsageError, match="sealed tasks of"):
        scored(run, {"suite.path": str(folder / "mine")}, ("sealed",))


def test_the_settings_are_the_runs_with_the_commands_on_top(run: Path, folder: Path) -> None:
    on = {"suite.path": str(folder / "mine")}
    recorded = Config.from_canonical(started(run).config)
    kept = champion.configuration(run, on)
    assert (kept.seed, kept.suite.levels, kept.roles, kept.wording) == (
        SEED,
        (1, 1),
        recorded.roles,
        recorded.wording,
    )
    asked = champion.configuration(run, on | {"roles.solver.max_tokens": 9, "policy.device": "auto"})
    assert (asked.roles.solver.max_tokens, asked.policy.device) == (9, "auto")
    assert asked.policy.max_tokens == recorded.policy.max_tokens


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("seed", 1, "split by its own"),
        ("suite.levels", [1, 2], "split by its own"),
        ("policy.checkpoint", "elsewhere", "brings its own weights"),
        ("learn.scale", 64.0, "brings its own weights"),
        ("memory.shared", "elsewhere", "brings its own weights and memory"),
    ],
)
def test_what_the_run_brings_is_refused_by_its_key(
    run: Path, folder: Path, key: str, value: Any, said: str
) -> None:
    with pytest.raises(UsageError, match=f"`{key}`.*{said}"):
        scored(run, {"suite.path": str(folder / "mine"), key: value})


def test_a_suite_with_skills_of_the_runs_that_is_another_is_refused(run: Path, folder: Path) -> None:
    other = folder / "other" / "mine"
    other.parent.mkdir()
    suite(other)
    with (other / "tasks.jsonl").open("a") as file:
        file.write('{"id": "more", "skill": "words", "prompt": "more", "answer": "x"}\n')
    with pytest.raises(UsageError, match="nobody could tell which of its tasks"):
        scored(run, {"suite.path": str(other)})


def test_the_runs_own_suite_elsewhere_and_under_another_name_is_that_suite(run: Path, folder: Path) -> None:
    moved = suite(folder / "moved")
    found = scored(run, {"suite.path": str(moved)})
    kept = {attempt.task.prompt for attempt in found.agent.attempts}
    assert kept == split(run, "train") | split(run, "dev")
    with pytest.raises(UsageError, match="sealed tasks of"):
        scored(run, {"suite.path": str(moved)}, ("sealed",))


@pytest.mark.parametrize("talk", [False, True], ids=["as a prompt", "in a conversation"])
def test_tasks_of_the_runs_under_another_skill_are_refused(run: Path, folder: Path, talk: bool) -> None:
    disguised = suite(folder / f"disguised_{talk}".lower(), "plain")
    prompt = min(split(run, "sealed"))
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    row = {"id": "more", "skill": "plain", "answer": "x"} | (
        {"messages": said} if talk else {"prompt": prompt}
    )
    with (disguised / "tasks.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match="has tasks of"):
        scored(run, {"suite.path": str(disguised)}, ("sealed",))


def test_a_key_that_only_reads_like_the_suites_is_refused(run: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match="path"):
        champion.configuration(run, {"suite.path": str(folder / "mine"), "path": "x"})


def test_other_tools_may_be_granted(run: Path, folder: Path) -> None:
    (folder / "granted.py").write_text('def port(name: str) -> int:\n    """A port."""\n    return 1\n')
    found = scored(run, {"tools.path": str(folder / "granted.py")})
    assert found.agent.score.n


def test_another_suite_is_all_there_to_be_scored(run: Path, folder: Path) -> None:
    found = scored(
        run, {"suite.path": str(suite(folder / "else", "others"))}, ("train", "dev", "gate", "sealed")
    )
    assert found.agent.score.n == 48


def test_graders_that_changed_since_are_refused(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "graders", lambda config: "changed")
    with pytest.raises(DivergedError, match="have changed since"):
        scored(run, {"suite.path": str(folder / "mine")})


def test_programs_recall_what_the_runs_memory_holds(run: Path, folder: Path) -> None:
    copy = shutil.copytree(run, folder / "remembering")
    with MemoryStore(memory_folder(copy)) as memory:
        memory.put([LESSON])
    (folder / "agent").mkdir()
    (folder / "agent" / "solve.py").write_text(
        "async def solve(task, agent):\n"
        "    found = await agent.recall(task.prompt, k=1)\n"
        "    return found[0].text if found else ''\n"
    )
    on = {"suite.path": str(folder / "mine"), "agent.path": str(folder / "agent")}
    assert [scored(each, on).agent.score.mean for each in (run, copy)] == [0.0, 1.0]
