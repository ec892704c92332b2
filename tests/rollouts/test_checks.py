"""Checks of a suite's folder: what ordinary Python does in one, it does alike for every attempt and for `validate`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from boxed import Model, boxes, command, host  # noqa: E402

from moevolve.agents.box.workspace import Workspace, take  # noqa: E402
from moevolve.agents.host import ProgramHost  # noqa: E402
from moevolve.config import Config, SandboxSection  # noqa: E402
from moevolve.errors import UsageError  # noqa: E402
from moevolve.loop import resolve  # noqa: E402
from moevolve.protocol.requests import PublicTask  # noqa: E402
from moevolve.rollouts.grading import Given, SealedGrader  # noqa: E402
from moevolve.tasks import folder  # noqa: E402
from moevolve.tasks.checks import check_files, libraries  # noqa: E402
from moevolve.tasks.grader.seal import seal  # noqa: E402
from moevolve.tasks.suite import Suite  # noqa: E402
from moevolve.tasks.task import Task, Verdict  # noqa: E402

CHECK = "def check(task, answer, workspace):\n"
EQUAL = CHECK + "    return float(same(answer, task['answer']))\n"
BESIDE = {
    "helper.py": "import other\n\ndef same(one, two):\n    return other.plain(one) == two\n",
    "other.py": "def plain(text):\n    return text.strip()\n",
    "package/deep.py": "def same(one, two):\n    return one == two\n",
    "gold.txt": " ".join(str(index) for index in range(10, 14)),
}
RIGHT, WRONG = None, "wrong"
CHECKS: dict[str, tuple[str, str | None, str | None]] = {
    "a whole module beside it": (
        "import helper\n" + CHECK + "    return float(helper.same(answer, task['answer']))\n", RIGHT, WRONG,
    ),
    "a name of a module beside it": ("from helper import same\n" + EQUAL, RIGHT, WRONG),
    "a package beside it": ("from package.deep import same\n" + EQUAL, RIGHT, WRONG),
    "an import within the check": (
        CHECK + "    import helper\n    return float(helper.same(answer, task['answer']))\n", RIGHT, WRONG,
    ),
    "a file beside it": (
        "from pathlib import Path\n" + CHECK
        + "    gold = Path(__file__).with_name('gold.txt').read_text().split()\n"
        "    return float(answer == task['answer'] in gold)\n", RIGHT, WRONG,
    ),
    "classes of every metaclass, a cache and a lock": (
        "import abc, functools, threading, typing\nT = typing.TypeVar('T')\nlock = threading.Lock()\n"
        "class Rule(abc.ABC):\n    @abc.abstractmethod\n    def met(self): ...\n"
        "class Can(typing.Protocol):\n    def met(self): ...\n"
        "class Row(typing.TypedDict):\n    x: int\n"
        "class Box(Rule, typing.Generic[T]):\n    def met(self): return True\n"
        "@functools.lru_cache\ndef same(one, two):\n    with lock:\n        return Box().met() and one == two\n" + EQUAL,
        RIGHT, WRONG,
    ),
    "classes within classes, decoded": (
        "from __future__ import annotations\nimport dataclasses, msgspec\n"
        "@dataclasses.dataclass\nclass Inner:\n    n: int\n"
        "@dataclasses.dataclass\nclass Outer:\n    inner: list[Inner]\n"
        "def same(one, two):\n"
        "    return msgspec.convert({'inner': [{'n': int(two)}]}, Outer).inner[0].n == int(two) and one == two\n" + EQUAL,
        RIGHT, WRONG,
    ),
    "a temporary folder": (
        "import pathlib, tempfile\n" + CHECK + "    with tempfile.TemporaryDirectory() as own:\n"
        "        file = pathlib.Path(own, 'x')\n        file.write_text(answer)\n"
        "        return float(file.read_text() == task['answer'])\n", RIGHT, WRONG,
    ),
    "a program": (
        "import subprocess, sys\n" + CHECK
        + "    done = subprocess.run([sys.executable, '-c', f'print({answer!r})'], capture_output=True, text=True)\n"
        "    return float(done.stdout.strip() == task['answer'])\n", RIGHT, WRONG,
    ),
    "a thread": (
        "import threading\n" + CHECK + "    said = []\n    thread = threading.Thread(target=said.append, args=[answer])\n"
        "    thread.start()\n    thread.join()\n    return float(said == [task['answer']])\n", RIGHT, WRONG,
    ),
    "words on stdout": (
        "print('noise')\n" + CHECK + "    print(answer)\n    return float(answer == task['answer'])\n", RIGHT, WRONG,
    ),
    "an end of the process": (
        "import os\n" + CHECK + "    if answer == task['answer']:\n        return 1.0\n    os._exit(0)\n",
        RIGHT, "check_error",
    ),
    "an end of the interpreter": (
        "import sys\n" + CHECK + "    if answer == task['answer']:\n        return 1.0\n    sys.exit('bye')\n",
        RIGHT, "check_error",
    ),
    "a file of this machine": (
        "from pathlib import Path\n" + CHECK + "    if answer == task['answer']:\n        return 1.0\n"
        "    Path(__file__).with_name('gold.txt').write_text(answer)\n    return 1.0\n", RIGHT, "check_error",
    ),
    "the names of failures that runs act on": (
        "from moevolve import Verdict\nNAMES = iter(())\n" + CHECK + "    if answer == task['answer']:\n        return 1.0\n"
        "    return Verdict(score=0.0, success=False, failure='policy')\n", RIGHT, WRONG,
    ),
}  # fmt: skip


def written(place: Path, check: str, count: int = 4, **more: str) -> Path:
    rows = [{"id": f"t{n}", "prompt": f"Say {n + 10}", "answer": str(n + 10)} | more for n in range(count)]
    place.mkdir(exist_ok=True)
    (place / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "check.py").write_text(check)
    for name, text in BESIDE.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    return place


@pytest.fixture(scope="module")
def agents() -> ProgramHost:
    return host()


@pytest.fixture
def left(agents: ProgramHost) -> Iterator[list[Workspace]]:
    """What agents in boxes left, for one look each."""
    public = [PublicTask(prompt="Say 10", skill="own/tasks", files=())] * 2
    program = command("open('made', 'w').write('x')\nprint(10)")
    outcomes = agents.solve(program, public, Model(), None, [1, 2], workspaces=True)
    found = [workspace for outcome in outcomes if (workspace := take(outcome.workspace)) is not None]
    assert [workspace.mount is not None for workspace in found] == [True, True]
    yield found
    for workspace in found:
        workspace.close()


def judged(own: Suite, *given: tuple[Task, str, Workspace | None]) -> list[Verdict]:
    grader = SealedGrader(own, SandboxSection(check_seconds=1.0))
    try:
        return grader.grade(
            [Given(task, answer, index, workspace) for index, (task, answer, workspace) in enumerate(given)],
            ("x",),
        )
    finally:
        grader.close()


@boxes
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_a_check_says_the_same_of_every_kind_of_attempt(
    name: str, tmp_path: Path, left: list[Workspace]
) -> None:
    check, right, wrong = CHECKS[name]
    own = folder.load(written(tmp_path / "own", check))
    task = own.draw("gate", "own/tasks", 1)
    # Of an agent in a box, of a function that wrote a file, and of what has no workspace, as the bare policy.
    given = [
        (task, answer, workspace)
        for answer, boxed in zip((task.answer or "", "zzz"), left, strict=True)
        for workspace in (boxed, Workspace(None, {"made": b"x"}), None)
    ]
    verdicts = judged(own, *given)
    assert [verdict.failure for verdict in verdicts] == [right] * 3 + [wrong] * 3, verdicts
    grader = SealedGrader(own, SandboxSection(check_seconds=1.0))
    report = own.validate(
        judge=lambda given: grader.grade([Given(*each, 0) for each in given], ("validate",))
    )
    grader.close()
    [leaf] = report.leaves
    assert report.ok and leaf.gold == 1.0 and leaf.constant <= 0.25
    assert (tmp_path / "own" / "gold.txt").read_text() == BESIDE["gold.txt"]


@boxes
def test_a_check_sees_the_tasks_files_where_an_attempt_left_none(tmp_path: Path) -> None:
    place = written(
        tmp_path / "own",
        CHECK + "    return float((workspace / 'data.txt').read_text() == answer)\n",
        files="one",
    )
    (place / "files" / "one").mkdir(parents=True)
    (place / "files" / "one" / "data.txt").write_text("given")
    own = folder.load(place)
    task = own.draw("gate", "own/tasks", 1)
    changed = Workspace(None, {"data.txt": b"changed"})
    verdicts = judged(own, (task, "given", None), (task, "given", changed), (task, "changed", changed))
    assert [verdict.success for verdict in verdicts] == [True, False, True]


@boxes
@pytest.mark.parametrize(
    ("check", "why"),
    [
        ("missing()\n" + EQUAL, "check.py cannot be imported: NameError"),
        ("import os\nos._exit(0)\n" + EQUAL, "ends its process, or does not end, when it is imported"),
        ("from other import *\ncheck = 3\n", "defines no function check"),
        (
            "from pathlib import Path\nPath(__file__).with_name('tasks.jsonl').read_text()\n" + EQUAL,
            "tasks.jsonl is closed to checks: `task` is the line",
        ),
    ],
)
def test_a_check_that_cannot_be_imported_is_named_before_anything_is_attempted(
    check: str, why: str, tmp_path: Path
) -> None:
    grader = SealedGrader(folder.load(written(tmp_path / "own", check)))
    with pytest.raises(UsageError, match=why):
        grader.start()
    grader.close()


@boxes
def test_a_check_is_imported_by_the_process_that_judges_one_answer(tmp_path: Path) -> None:
    """Its libraries are there before; what it does when it is imported, it does to its own answer alone."""
    check = "import os, helper, tomllib\nfrom http import client\nBEGAN = os.getpid()\n" + CHECK
    own = folder.load(written(tmp_path / "own", check + "    return float(BEGAN == os.getpid())\n"))
    task = own.draw("gate", "own/tasks", 1)
    assert [verdict.failure for verdict in judged(own, (task, "x", None), (task, "y", None))] == [None, None]
    assert libraries(check_files(own.skills.values())) == ("http", "os", "tomllib")


def test_a_check_is_what_its_file_holds_now(tmp_path: Path) -> None:
    own = folder.load(written(tmp_path / "own", "from helper import same\n" + EQUAL))
    task = own.draw("gate", "own/tasks", 1)
    assert not own.grade(task, "zzz").success
    (tmp_path / "own" / "helper.py").write_text("def same(one, two):\n    return True\n")
    assert own.grade(task, "zzz").success


@boxes
def test_a_run_judges_by_the_copy_that_it_keeps(tmp_path: Path) -> None:
    place = written(tmp_path / "own", "from helper import same\n" + EQUAL, count=12)
    config = resolve.with_files(Config.load("small", {"suite.path": str(place)}))
    before = resolve.graders(config)
    kept = resolve.keep_files(config, tmp_path / "run")
    (place / "helper.py").write_text("def same(one, two):\n    return True\n")
    own = resolve.suite(kept)
    task = own.draw("gate", "own/tasks", 1)
    [verdict] = judged(own, (task, "zzz", None))
    assert verdict.failure == "wrong"
    assert resolve.graders(kept) == before


def test_the_seal_is_that_of_all_that_a_check_may_read(tmp_path: Path) -> None:
    one = written(tmp_path / "own", "from helper import same\n" + EQUAL)
    other = tmp_path / "copy"
    folder.copy(one, other)
    assert seal(folder.load(one)) == seal(folder.load(other, "own"))
    for name in ("other.py", "gold.txt", "check.py"):
        shutil.copytree(one, tmp_path / name)
        with (tmp_path / name / name).open("a") as file:
            file.write("\n# more\n")
        assert seal(folder.load(one)) != seal(folder.load(tmp_path / name, "own")), name
