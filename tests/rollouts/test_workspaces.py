"""Checks that look at what an attempt left: read-only, without a copy, and whatever they do is that answer's verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from boxed import Model, boxes, command, host  # noqa: E402

from moevolve.agents.box.running import Ended  # noqa: E402
from moevolve.agents.box.workspace import Workspace, take  # noqa: E402
from moevolve.config import SandboxSection  # noqa: E402
from moevolve.errors import UsageError  # noqa: E402
from moevolve.protocol.requests import PublicTask  # noqa: E402
from moevolve.rollouts.grader import GraderProcess  # noqa: E402
from moevolve.rollouts.workspaces import _verdict  # noqa: E402
from moevolve.tasks.folder import load  # noqa: E402
from moevolve.tasks.task import Task, Verdict  # noqa: E402

CHECK = """
import os, signal, time
DEEDS = {
    "hang": "time.sleep(10_000)", "spin": "while True: pass", "die": "os.kill(os.getpid(), signal.SIGKILL)",
    "print": "while True: print('x' * 1000)", "raise": "raise RuntimeError('no way')", "exit": "os._exit(0)",
    "fork": "while True:\\n try: os.fork()\\n except OSError: pass",
    "fill": "open('/tmp/a', 'wb').write(bytes(1 << 30))", "write": "(workspace / 'new').write_text('x')",
    "net": "import socket; socket.create_connection(('127.0.0.1', 8000))",
    "forge": "import subprocess, sys; subprocess.run([sys.executable, '-c', DEEDS['forger']], close_fds=False)",
}
DEEDS['forger'] = '''
import os, signal
check, verdict = os.getppid(), b'[1.0,true,null,""]'
def forged():
    try:
        return os.write(3, verdict)
    except OSError:
        return open(f"/proc/{check}/fd/3", "wb", 0).write(verdict)
if os.fork() == 0:
    os.setsid()
    forged()
    while True: os.kill(check, signal.SIGINT)
os.wait()
'''
def check(task, answer, workspace):
    exec(DEEDS.get(answer, ""))
    return float((workspace / "result.txt").read_text() == task["wanted"])
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    rows = [{"id": f"t{n}", "prompt": f"Task {n}", "wanted": "done", "files": "given"} for n in range(12)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "check.py").write_text(CHECK)
    (tmp_path / "files/given/deep").mkdir(parents=True)
    (tmp_path / "files/given/deep/a.txt").write_text("a")
    return tmp_path


@pytest.fixture
def grader(suite: Path) -> Iterator[GraderProcess]:
    process = GraderProcess(load(suite, "left"), SandboxSection(check_seconds=1.0))
    yield process
    process.close()


def task(suite: Path) -> Task:
    return load(suite, "left").skills["left/tasks"].task(1, 0)


def graded(grader: GraderProcess, suite: Path, *answers: str) -> list[Verdict]:
    left = [Workspace(None, {"result.txt": b"done"}) for _ in answers]
    return grader.grade([(task(suite), answer) for answer in answers], left)


@boxes
def test_the_workspace_of_an_attempt_reaches_the_check_as_it_lies(grader: GraderProcess, suite: Path) -> None:
    script = "open('result.txt', 'w').write('done' if open('deep/a.txt').read() == 'a' else 'no')\nprint('x')"
    public = PublicTask(prompt="Task 0", skill="left/tasks", files=task(suite).files.read())  # type: ignore[union-attr]
    [outcome] = host().solve(command(script), [public], Model(), None, [1], workspaces=True)
    workspace = take(outcome.workspace)
    assert workspace is not None and workspace.mount is not None
    [verdict] = grader.grade([(task(suite), "x")], [workspace])
    assert verdict.success, verdict
    assert workspace.packed(1 << 20) == {"deep/a.txt": b"a", "result.txt": b"done"}
    assert workspace.packed(3) is None
    workspace.close()


@boxes
@pytest.mark.parametrize(
    ("deed", "failure"),
    [
        ("spin", "check_timeout"), ("die", "check_error"), ("print", "check_error"), ("raise", "check_error"),
        ("exit", "check_error"), ("fork", "check_"), ("fill", "check_error"), ("write", "check_error"),
        ("net", "check_error"),
    ],
)  # fmt: skip
def test_a_check_that_misbehaves_costs_its_own_answer(
    deed: str, failure: str, grader: GraderProcess, suite: Path
) -> None:
    first, second, third = graded(grader, suite, "fine", deed, "fine")
    assert first.success and third.success
    assert second.failure is not None and second.failure.startswith(failure), second


@boxes
def test_code_of_a_workspace_that_a_check_starts_cannot_speak_for_it(
    grader: GraderProcess, suite: Path
) -> None:
    """It has the check's user and its descriptors by /proc: it writes a verdict there and keeps the check from its own."""
    [verdict] = grader.grade([(task(suite), "forge")], [Workspace(None, {"result.txt": b"nothing"})])
    assert (verdict.success, verdict.failure) == (False, "wrong"), verdict


@pytest.mark.parametrize("end", [{"code": 1}, {"code": 120}, {"signal": 2}, {"timeout": True}, {}])
def test_a_verdict_counts_where_the_check_came_to_its_end(end: dict[str, Any]) -> None:
    said = b'[1.0,true,null,""]'
    assert _verdict(Ended(b"", b"", said, code=0), 1.0, 1.0).success
    found = _verdict(Ended(b"", b"", said, **end), 1.0, 1.0)
    assert not found.success and found.failure in ("check_error", "check_timeout")


def test_no_failure_that_a_box_names_has_a_meaning_to_runs() -> None:
    said = b'[0.0,false,"policy","taken over"]'
    assert _verdict(Ended(b"", b"", said, code=0), 1.0, 1.0).failure == "wrong"


@boxes
def test_a_workspace_without_the_file_is_the_checks_own_error(grader: GraderProcess, suite: Path) -> None:
    [verdict] = grader.grade([(task(suite), "x")], [Workspace(None, {})])
    assert verdict.failure == "check_error" and "FileNotFoundError" in verdict.detail


def test_a_workspace_follows_no_link_and_reads_no_pipe(tmp_path: Path) -> None:
    import os

    (tmp_path / "secret").write_text("secret")
    left = tmp_path / "left"
    (left / "folder").mkdir(parents=True)
    (left / "plain").write_text("plain")
    (left / "link").symlink_to(tmp_path / "secret")
    (left / "folder/up").symlink_to(tmp_path)
    os.mkfifo(left / "pipe")
    workspace = Workspace(os.open(left, os.O_RDONLY))
    assert [workspace.read(name, 9) for name in ("plain", "link", "pipe", "folder", "none", "a/b")] == [
        b"plain", None, None, None, None, None,
    ]  # fmt: skip
    assert workspace.packed(100) == {"plain": b"plain"}
    workspace.close()


@pytest.mark.parametrize("name", ["nothing", "../check.py", "/etc/passwd", "."])
def test_files_that_are_not_the_suites_are_refused(name: str, suite: Path) -> None:
    (suite / "tasks.jsonl").write_text(json.dumps({"id": "a", "prompt": "x", "files": name}) + "\n")
    with pytest.raises(UsageError, match="holds nothing of that name"):
        load(suite, "left")
