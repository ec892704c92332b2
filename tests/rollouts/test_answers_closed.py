"""What a check runs of an attempt meets no answer: not in files, other processes, descriptors or variables."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from boxed import Model, boxes, command  # noqa: E402

from moevolve.agents.box.host import BoxHost  # noqa: E402
from moevolve.agents.box.workspace import Workspace  # noqa: E402
from moevolve.agents.host import ProgramHost  # noqa: E402
from moevolve.config import SandboxSection  # noqa: E402
from moevolve.errors import UsageError  # noqa: E402
from moevolve.protocol.requests import PublicTask  # noqa: E402
from moevolve.rollouts import grader as graders  # noqa: E402
from moevolve.rollouts.grader import GraderProcess  # noqa: E402
from moevolve.tasks import folder  # noqa: E402
from moevolve.tasks.task import Verdict  # noqa: E402

THIEF = r"""
import ctypes, os, re, sys
GOLD = re.compile(b"go" + b"ld-[0-9]{8}")
said = set()

def look(data):
    said.update(GOLD.findall(data))

def read(path, most=1 << 24):
    try:
        with open(path, "rb") as file:
            look(file.read(most))
    except (OSError, ValueError):
        pass

def files():
    closed = ("/proc", "/sys", "/dev", "/usr", "/lib", "/bin", "/sbin", "/etc")
    for top, folders, names in os.walk("/"):
        folders[:] = [each for each in folders if os.path.join(top, each) not in closed]
        for name in names:
            if name.endswith((".jsonl", ".toml", ".json", ".txt", ".py")) and "site-packages" not in top:
                read(os.path.join(top, name))

def processes():
    for pid in [*filter(str.isdigit, os.listdir("/proc")), "self", "thread-self"]:
        for name in ("environ", "cmdline", "stat", "auxv"):
            read(f"/proc/{pid}/{name}")
        for name in ("cwd", "root"):
            read(f"/proc/{pid}/{name}/suite/tasks.jsonl")
        if pid not in ("self", "thread-self", str(os.getpid())):
            try:
                memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
            except OSError:
                continue
            for line in open(f"/proc/{pid}/maps"):
                begin, end = (int(each, 16) for each in line.split()[0].split("-"))
                try:
                    look(os.pread(memory, min(end - begin, 1 << 26), begin))
                except (OSError, OverflowError):
                    continue
        try:
            handed = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for each in handed:
            try:
                plain = os.readlink(f"/proc/{pid}/fd/{each}").startswith("/") and os.path.isfile(f"/proc/{pid}/fd/{each}")
            except OSError:
                continue
            if plain:
                read(f"/proc/{pid}/fd/{each}")

def descriptors():
    for each in range(256):
        try:
            os.lseek(each, 0, 0)
            look(os.read(each, 1 << 20))
        except OSError:
            continue
    look(repr((dict(os.environ), sys.argv, sys.orig_argv)).encode())

def memory():
    for line in open("/proc/self/maps"):
        where, rights, *_ = line.split()
        begin, end = (int(each, 16) for each in where.split("-"))
        if rights.startswith("rw") and "[v" not in line:
            look(ctypes.string_at(begin, end - begin))

for deed in DEEDS:
    deed()
"""
OUTSIDE = f"{THIEF.replace('DEEDS', '(descriptors, processes, files)')}\nprint(len(said))\n"
"""A program that reads all that it can, and says how many answers it read."""
INSIDE = f"{THIEF.replace('DEEDS', '(descriptors, processes, files, memory)')}\n"
"""The same for the check's own process."""

CHECK = """
import subprocess, sys
from moevolve import Verdict
def check(task, answer, workspace):
    if answer == "program":
        done = subprocess.run([sys.executable, workspace / "made.py"], capture_output=True, text=True)
        read = int(done.stdout) if done.returncode == 0 else done.stderr
    else:
        space = {}
        exec((workspace / "made.py").read_text(), space)
        read = len(space["said"])
    return Verdict(score=0.0, success=False, failure="judged", detail=f"{read}")
"""


def rows(count: int = 12) -> str:
    return "".join(
        json.dumps({"id": f"t{n}", "prompt": f"Task {n}", "answer": f"gold-{10_000_000 + n}"}) + "\n"
        for n in range(count)
    )


def written(place: Path) -> Path:
    place.mkdir()
    (place / "tasks.jsonl").write_text(rows())
    (place / "again.txt").symlink_to("tasks.jsonl")
    (place / "check.py").write_text(CHECK)
    return place


def judged(place: Path, answer: str, made: str) -> Verdict:
    own = folder.load(place)
    grader = GraderProcess(own, SandboxSection(check_seconds=30.0))
    try:
        task = own.draw("gate", "suite/tasks", 1)
        [verdict] = grader.grade([(task, answer)], [Workspace(None, {"made.py": made.encode()})])
    finally:
        grader.close()
    return verdict


@boxes
def test_a_program_that_a_check_starts_reads_no_answer(tmp_path: Path) -> None:
    verdict = judged(written(tmp_path / "suite"), "program", OUTSIDE)
    assert (verdict.failure, verdict.detail) == ("judged", "0"), verdict


@boxes
def test_what_a_check_imports_meets_one_task_and_no_other(tmp_path: Path) -> None:
    """Its own is in the check's memory, and so in that of what the check runs there: docs/agents.md says so."""
    verdict = judged(written(tmp_path / "suite"), "import", INSIDE)
    assert (verdict.failure, verdict.detail) == ("judged", "1"), verdict


@boxes
def test_an_agent_in_a_box_reads_no_tasks_where_its_folder_shows_them(tmp_path: Path) -> None:
    place = written(tmp_path / "suite")
    every = f"from pathlib import Path\nfor file in Path({str(place)!r}).iterdir():\n"
    script = f"{every}    print(file.name, len(file.read_text()))"
    hidden = folder.answer_files(folder.load(place))
    assert hidden == [place / "tasks.jsonl"]
    host = ProgramHost(boxes=BoxHost(hidden=hidden))
    public = [PublicTask(prompt="Task 1", skill="suite/tasks")]
    [outcome] = host.solve(command(script, readable=[str(place)]), public, Model(), None, [1])
    host.boxes.close()
    said = dict(line.split() for line in (outcome.answer or "").splitlines())
    assert said == {"again.txt": "0", "tasks.jsonl": "0", "check.py": str(len(CHECK))}, outcome


def test_the_tasks_of_an_installed_suite_are_closed_where_the_package_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, other = written(tmp_path / "suite"), tmp_path / "package"
    other.mkdir()
    (other / "tasks.jsonl").write_text(rows())
    monkeypatch.setattr(folder, "installed", lambda: ["acme", "broken"])

    def located(name: str) -> Path:
        if name == "broken":
            raise UsageError("it leads nowhere")
        return other

    monkeypatch.setattr(folder, "located", located)
    assert folder.answer_files(folder.load(place)) == [other / "tasks.jsonl", place / "tasks.jsonl"]


FORKED = """
import re, sys
from pathlib import Path
def check(task, answer, workspace):
    try:
        Path(__file__).with_name("tasks.jsonl").read_text()
    except OSError:
        frame, said = sys._getframe(), set()
        while frame:
            said |= set(re.findall("gold-[0-9]{8}", repr(frame.f_locals)))
            frame = frame.f_back
        assert said == {task["answer"]}, said
        assert Path(__file__).with_name("beside.txt").read_text() == "beside"
        (left,) = workspace.iterdir()
        return float(left.read_text() == answer)
"""


def test_a_machine_without_boxes_shows_what_an_attempt_left_and_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graders, "offered", lambda: False)
    place = written(tmp_path / "suite")
    (place / "check.py").write_text(FORKED)
    (place / "beside.txt").write_text("beside")
    own = folder.load(place)
    process = GraderProcess(own, SandboxSection(check_seconds=5.0))
    task = own.draw("gate", "suite/tasks", 1)
    left = [Workspace(None, {name: text.encode()}) for name, text in (("a", "x"), ("b", "x"), ("c", "y"))]
    process.prove()
    verdicts = process.grade([(task, "x")] * 3, left)
    process.close()
    assert [verdict.failure for verdict in verdicts] == [None, None, "wrong"], verdicts
    (place / "check.py").write_text("import missing_library\n" + FORKED)
    process = GraderProcess(folder.load(place), SandboxSection())
    with pytest.raises(UsageError, match=r"check.py cannot be imported: ModuleNotFoundError"):
        process.prove()
    process.close()
