"""Programs that misbehave: each has its typed failure, and its siblings have their answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moevolve.agents.genome import Genome
from moevolve.protocol.requests import PublicTask

ASK = "\nreturn (await agent.generate(task.prompt, temperature=0)).text"
"""Ends a program's `solve` honestly."""


def outcomes(host, genome, oracle, count=3):
    tasks = [PublicTask(prompt=f"rev:{'abc'[index]}x=", skill="text/reverse") for index in range(count)]
    return host.solve(genome, tasks, oracle, None, list(range(count)))


FIRST = "if task.prompt == 'rev:ax=':\n    "
"""Only the first attempt misbehaves."""


@pytest.mark.parametrize(
    ("deed", "failure", "detail"),
    [
        ("raise ValueError('wrong turn')", "error", "ValueError: wrong turn (solve.py:4 in solve)"),
        ("raise SystemExit(3)", "error", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "error", "KeyboardInterrupt"),
        ("f = lambda: f()\n    f()", "error", "RecursionError"),
        ("return 42", "malformed", "int"),
        ("return None", "malformed", "NoneType"),
        ("return 'x' * 100_000", "malformed", "100000"),
        ("while True:\n        pass", "timeout", "processor time"),
        ("import os\n    while True: os.write(2, b'noise' * 1000)", "timeout", "processor time"),
        ("b'x' * (1 << 40)", "error", "MemoryError"),
        ("import os\n    os.fork()", "error", "PermissionError"),
        ("import threading\n    threading.Thread(target=print).start()", "error", "can't start new thread"),
        ("import socket\n    socket.socket()", "error", "PermissionError"),
        ("import subprocess\n    subprocess.run(['/bin/true'])", "error", "Error"),
        ("open('/etc/passwd')", "error", "Error"),
        ("open('/root/.bashrc')", "error", "Error"),
        ("open('/tmp/trace', 'w')", "error", "Error"),
        ("import moevolve", "error", "ModuleNotFoundError"),
        ("await agent.call('shell', command='ls')", "error", "ToolError"),
        ("await agent.generate(7)", "rejected", "$.prompt"),
        ("await agent.generate('p', temperature=float('nan'))", "error", "ValueError"),
        ("await agent.generate('p' * 100_000)", "budget", "roles.solver.prompt_chars allows 2048"),
        ("await agent.generate('p', n=10**9)", "budget", "roles.solver.completions allows 32"),
        ("while True:\n        await agent.generate('p')", "budget", ""),
        ("await agent.gather(*[agent.generate('p') for _ in range(1000)])", "budget", ""),
        ("import asyncio\n    await asyncio.sleep(1)", "error", ""),
        ("import types\n    await types.coroutine(lambda: (yield 5))()", "error", "not the agent's"),
    ],
)
def test_one_attempt_fails_and_the_others_do_not(host, oracle, program, deed, failure, detail):
    first, *others = outcomes(host, program(FIRST + deed + ASK), oracle)
    assert (first.failure, detail in first.detail) == (failure, True), first
    assert first.answer is None
    assert [(other.answer, other.failure) for other in others] == [("xb", None), ("xc", None)]


@pytest.mark.parametrize(
    ("deed", "failure"),
    [
        ("import os\n    os._exit(0)", "crash"),
        ("import os\n    os.abort()", "crash"),
        ("import os\n    os.write(4, b'\\xff' * 64); os._exit(0)", "malformed"),
        ("import os\n    os.write(4, b'\\x05\\0\\0\\0hello'); os._exit(0)", "malformed"),
        ("import sys\n    sys.modules['worker'].Frames.write = print\n    while True: pass", "timeout"),
        (
            "import _signal\n    _signal.signal(_signal.SIGPROF, _signal.SIG_IGN)\n    while True: pass",
            "timeout",
        ),
    ],
)
def test_a_process_that_goes_down_takes_only_its_own_attempts(hasty, oracle, program, deed, failure):
    found = outcomes(hasty, program(FIRST + deed + ASK), oracle)
    assert found[0].failure == failure, found[0]
    assert all(outcome.answer is None for outcome in found)


def test_what_ended_in_an_earlier_round_stays(hasty, oracle, program):
    deed = FIRST + "await agent.generate('rev:q=')\n    import os\n    os._exit(1)" + ASK
    first, *others = outcomes(hasty, program(deed), oracle)
    assert first.failure == "crash"
    # The siblings' answers went out with the round after their request, together with the crash: none is lost
    # that was told, none is invented.
    assert {other.failure for other in others} <= {None, "crash"}


def test_a_frame_may_not_name_foreign_attempts(host, oracle, program):
    head = """
import json, sys
def forged(self, message):
    import os
    message = json.loads(message)
    message["done"] = [[99, "x", None, ""]]
    body = json.dumps(message).encode()
    os.write(self.output, len(body).to_bytes(4, "little") + body)
sys.modules["worker"].Frames.write = forged
"""
    found = outcomes(host, program("return ''", head), oracle)
    assert {outcome.failure for outcome in found} == {"malformed"}


def test_the_environment_and_the_arguments_hold_no_secret(host, oracle, program, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    genome = program("import os\nraise ValueError(sorted(os.environ))")
    [outcome] = outcomes(host, genome, oracle, 1)
    assert "SECRET" not in outcome.detail
    assert "PYTHONHASHSEED" in outcome.detail


def test_only_the_named_folders_exist(host, oracle, program):
    genome = program("import os\nraise ValueError(sorted(os.listdir('/')), os.getpid(), os.getuid())")
    [outcome] = outcomes(host, genome, oracle, 1)
    if "ValueError" in outcome.detail:
        assert "etc" not in outcome.detail or "proc" not in outcome.detail
    else:
        assert "PermissionError" in outcome.detail


@pytest.mark.parametrize(
    ("source", "failure"),
    [
        ("this is no Python", "error"),
        ("raise RuntimeError('at import')", "error"),
        ("import sys; sys.exit()", "error"),
        ("x = 1", "error"),
        ("def solve(task, agent): return 'x'", "error"),
        ("while True: pass", "timeout"),
    ],
)
def test_a_program_that_does_not_load_fails_every_attempt(hasty, oracle, source, failure):
    found = outcomes(hasty, Genome(files={"solve.py": source}), oracle)
    assert [outcome.failure for outcome in found] == [failure] * 3
    assert oracle.rounds == []


def test_a_program_without_solve_or_with_a_bad_file_name_fails(host, oracle):
    assert {o.failure for o in outcomes(host, Genome(files={}), oracle)} == {"error"}
    escaping = Genome(files={"../solve.py": ""})
    assert {o.failure for o in outcomes(host, escaping, oracle)} == {"error"}


def test_no_process_is_left_behind(hasty, oracle, program):
    def parent(process: int) -> int:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])

    def ours(process: int) -> bool:
        """Below this process, or an orphan; other runs of the tests beside this one have workers of their own."""
        above = parent(process)
        if above <= 1:
            return True
        while above > 1 and above != os.getpid():
            above = parent(above)
        return above == os.getpid()

    def children() -> set[int]:
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if b"import marshal, posix" in (path / "cmdline").read_bytes() and ours(int(path.name)):
                    found.add(int(path.name))
            except OSError:
                continue  # It has just ended.
        return found

    genome = program("while True: pass", head="import _signal\n_signal.signal(27, _signal.SIG_IGN)")
    assert outcomes(hasty, genome, oracle)[0].failure == "timeout"
    assert children() == set()
