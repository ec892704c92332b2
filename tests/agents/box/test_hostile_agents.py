"""Agents that misbehave: each has a typed verdict, its siblings are unharmed, and nothing of it is left."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from boxed import ASK, PLAIN, Model, answers, boxes, command, host, tasks  # noqa: E402

from moevolve.agents.box.host import BoxHost  # noqa: E402
from moevolve.agents.box.http import MOST_HELD, Door, Malformed  # noqa: E402
from moevolve.agents.box.records import Records  # noqa: E402
from moevolve.agents.genome import Genome  # noqa: E402
from moevolve.agents.host import ProgramHost  # noqa: E402
from moevolve.config import RolesSection  # noqa: E402
from moevolve.config.roles import RoleSection  # noqa: E402
from moevolve.protocol.completion import Completion  # noqa: E402
from moevolve.protocol.requests import GenerateRequest, Outcome, PublicTask, Unanswered  # noqa: E402

pytestmark = boxes

SMALL = {
    "seconds": 20,
    "cpu_seconds": 1,
    "memory_mb": 256,
    "processes": 16,
    "workspace_mb": 2,
    "output_kb": 64,
}

DEEDS = {
    "sleeps": ("import time; time.sleep(1000)", "timeout", "more than 1 s"),
    "spins": ("while True: pass", "limit", "cpu_seconds = 1"),
    "crashes": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crash", "signal 11"),
    "raises": ("raise RuntimeError('no way')", "error", "no way"),
    "exits": ("raise SystemExit(3)", "error", "code 3"),
    "forks": (
        "import os\nwhile True:\n try: os.fork()\n except OSError: pass", "limit", "processes = 16|cpu_seconds = 1",
    ),
    "starts threads": (
        "import threading, time\nwhile True:\n"
        " try: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n except RuntimeError: pass",
        "limit", "processes = 16|cpu_seconds = 1",
    ),
    "prints": ("while True: print('x' * 1000)", "limit", "output_kb = 64"),
    "complains": ("import sys\nwhile True: print('x' * 1000, file=sys.stderr)", "limit", "output_kb = 64"),
    "fills the disk": ("open('a', 'wb').write(bytes(100 << 20))", "limit", "workspace_mb = 2"),
    "fills /tmp": ("open('/tmp/a', 'wb').write(bytes(100 << 20))", "limit", "workspace_mb = 2"),
    "fills memory": ("x = []\nwhile True: x.append(bytearray(10 << 20))", "error", "MemoryError"),
    "leaves a link as its answer": ("import os; os.symlink('/etc/passwd', 'answer')", "malformed", "no plain file"),
    "leaves a pipe as its answer": ("import os; os.mkfifo('answer')", "malformed", "no plain file"),
    "leaves a folder as its answer": ("import os; os.mkdir('answer')", "malformed", "no plain file"),
    "answers at length": ("open('answer', 'w').write('x' * 100_000)", "malformed", "no answer of a proper length"),
}  # fmt: skip


@pytest.mark.parametrize("deed", list(DEEDS))
def test_a_misdeed_is_a_typed_verdict_and_its_siblings_answer(deed: str) -> None:
    source, failure, detail = DEEDS[deed]
    script = (
        f"{ASK}\ntext = sys.stdin.read()\nif text.startswith('1 '):\n    exec({source!r})\n"
        "else:\n    open('answer', 'w').write(say(text))\n"
    )
    limits = SMALL | {"seconds": 1} if failure == "timeout" else SMALL
    outcomes = host().solve(
        command(script, answer="file:answer", limits=limits), tasks(3), Model(), None, [1, 2, 3]
    )
    assert answers(outcomes) == ["1", None, "5"], outcomes
    assert outcomes[1].failure == failure, outcomes[1].detail
    assert any(part in outcomes[1].detail for part in detail.split("|")), outcomes[1].detail


def test_what_an_attempt_leaves_running_ends_with_it() -> None:
    script = (
        "import os, signal, sys, time\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        "            for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\n"
        "            sys.stdout.close(); time.sleep(10_000)\n"
        "        os._exit(0)\n"
        "print('done')\n"
    )
    assert answers(host().solve(command(MARK + script), tasks(2), Model(), None, [1, 2])) == ["done", "done"]
    assert not boxed_processes()


MARKED = f"of-{os.getpid()}"
MARK = f"open({MARKED!r}, 'w').close()\n"
"""What agents begin with whose processes are looked for."""


def boxed_processes() -> set[str]:
    """Processes of this machine that run in a box with the mark."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                marked = Path(f"/proc/{entry.name}/root/box/work/{MARKED}").exists()
                levels = (entry / "status").read_text().partition("NSpid:")[2].partition("\n")[0].split()
                if (
                    marked and len(levels) > 1
                ):  # Who has made the box is outside, and ends when it has seen its end.
                    found.add(entry.name)
            except OSError:
                continue
    return found


ESCAPES = {
    "a server of the host": "import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
    "the internet": "import socket; socket.create_connection(('8.8.8.8', 53), 2)",
    "sockets of virtual machines": "import socket; socket.socket(40, socket.SOCK_STREAM)",
    "raw packets": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "settings of the kernel": "open('/proc/sys/kernel/core_pattern', 'w')",
    "the interpreter's files": "import os; open(os.__file__, 'a')",
    "the system's files": "open('/usr/bin/own', 'w')",
    "its own code": "open(__file__, 'a')",
    "the root": "open('/own', 'w')",
    "devices": "open('/dev/own', 'w')",
    "files of the host": "open({secret!r})",
    "the host's passwords": "open('/etc/shadow')",
    "a namespace": "import ctypes, os; r = ctypes.CDLL(None, use_errno=True).unshare(0x10000000); assert r == 0",
    "a mount": "import ctypes; assert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0",
    "tracing": "import ctypes; assert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0",
    "the kernel's keys": "import ctypes; assert ctypes.CDLL(None).syscall(250, 0, -4, 0) >= 0",
    "privileges": "import os; os.setuid(0)",
    "process 1": "import os, signal; os.kill(1, signal.SIGKILL); raise SystemExit(1)",
    "another process": "import os; [os.kill(n, 0) for n in range(10, 400)]",
    "the door again": (
        "import socket; s = socket.socket(); s.setsockopt(1, 15, 1); s.bind(('127.0.0.1', 8000)); s.listen()"
    ),
}


@pytest.mark.parametrize("deed", list(ESCAPES))
def test_a_box_leads_nowhere(deed: str, tmp_path: Path) -> None:
    import socket

    secret = tmp_path / "secret"
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = ESCAPES[deed].format(port=server.getsockname()[1], secret=str(secret))
        script = (
            f"try:\n    exec({source!r})\nexcept BaseException as error:\n    print('refused', repr(error))\n"
            "else:\n    print('done')\n"
        )
        [outcome] = host().solve(command(script), tasks(1), Model(), None, [1])
    assert outcome.answer is not None and outcome.answer.startswith("refused"), outcome


def test_the_environment_and_descriptors_of_the_host_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-host")
    monkeypatch.setenv("SECRET_OF_MINE", "1")
    script = "import os\nprint(sorted(os.environ.items()), sorted(os.listdir('/proc/self/fd')))"
    [outcome] = host().solve(command(script), tasks(1), Model(), None, [1])
    assert outcome.answer is not None
    assert "sk-of-the-host" not in outcome.answer and "SECRET_OF_MINE" not in outcome.answer
    assert outcome.answer.endswith("['0', '1', '2', '3']")


def test_an_attempt_that_is_refused_ends_there_and_the_rest_goes_on() -> None:
    script = (
        f"{ASK}\nimport time\ntext = sys.stdin.read()\nfor _ in range(9 if text.startswith('0') else 1):\n"
        "    print(ask(text)[0])\ntime.sleep(9 if text.startswith('0') else 0)\n"
    )
    outcomes = host(requests=3).solve(command(script), tasks(2), Model(), None, [1, 2])
    assert (outcomes[0].failure, outcomes[0].requests) == ("budget", 3)
    assert "roles.solver.requests = 3" in outcomes[0].detail
    assert outcomes[1].answer == "200"


def test_no_budget_is_overspent_whatever_is_asked_at_once() -> None:
    script = (
        f"{ASK}\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n    list(pool.map(lambda n: ask('1 2', max_tokens=16), range(40)))\n"
    )
    limits = {"at_once": 4}
    outcomes = host(tokens=60, requests=50, max_tokens=16).solve(
        command(script, limits=limits), tasks(4), Model(), None, [1, 2, 3, 4]
    )
    assert {outcome.failure for outcome in outcomes} == {"budget"}
    assert all(0 < outcome.tokens <= 60 for outcome in outcomes)


def test_a_request_above_a_limit_is_refused_with_its_name() -> None:
    script = f"{ASK}\nprint(ask('x', max_tokens=10_000))"
    [outcome] = host(max_tokens=64).solve(command(script), tasks(1), Model(), None, [1])
    assert outcome.failure == "budget" and "roles.solver.max_tokens allows 64" in outcome.detail


def test_what_cannot_be_honoured_is_refused_by_name_and_the_attempt_goes_on() -> None:
    script = f"""{ASK}
said = [
    ask("x", logit_bias={{"1": 5}}), ask("x", surprise=1), ask("x", temperature=99), ask("x", messages=[]),
    ask([{{"type": "image_url", "image_url": {{}}}}]), ask("x", path="/v1/embeddings"), ask("x", n="many"),
]
print([status for status, _ in said], [told["error"]["message"][:14] for _, told in said])
"""
    [outcome] = host().solve(command(script), tasks(1), Model(), None, [1])
    assert outcome.answer is not None, outcome
    assert outcome.answer.startswith("[400, 400, 400, 400, 400, 404, 400]")
    assert "logit_bias" in outcome.answer and "surprise" in outcome.answer


def test_a_policy_that_does_not_answer_ends_the_attempt_as_it_does_a_programs() -> None:
    def silent(requests: list[GenerateRequest]) -> list[Unanswered]:
        return [Unanswered(failure="policy", detail="gone") for _ in requests]

    [outcome] = host().solve(command(), tasks(1), silent, None, [1])
    assert (outcome.failure, outcome.detail) == ("policy", "gone")


def test_an_error_of_the_policy_ends_all_boxes_and_is_raised() -> None:
    def broken(requests: list[GenerateRequest]) -> list[list[Completion]]:
        raise ConnectionError("the server is gone")

    with pytest.raises(ConnectionError, match="gone"):
        host().solve(command(MARK + PLAIN), tasks(5), broken, None, range(5))
    assert not boxed_processes()


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", b"x" * 10_000,
        b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 4\r\n\r\n\xff\xfe{}",
    ],
)  # fmt: skip
def test_a_client_that_speaks_no_http_costs_nobody(said: bytes) -> None:
    script = (
        f"{ASK}\nimport socket\nfor _ in range(70):\n    s = socket.create_connection(('127.0.0.1', 8000), 5)\n"
        f"    s.settimeout(5)\n    try:\n        s.sendall({said!r} * 8); s.shutdown(1); s.recv(1000)\n"
        "    except OSError: pass\n    s.close()\nprint(say(sys.stdin.read()))\n"
    )
    assert answers(host().solve(command(script), tasks(2), Model(), None, [1, 2])) == ["1", "3"]


def test_more_connections_than_are_served_at_one_time_wait_for_their_turn() -> None:
    script = f"""{ASK}
import socket
BODY = json.dumps({{"model": "m", "messages": [{{"role": "user", "content": "1 2"}}]}}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(BODY)
doors = [socket.create_connection(("127.0.0.1", 8000)) for _ in range(90)]
for door in doors:
    door.sendall(HEAD + BODY)
told = [door.recv(1 << 16)[:15] for door in doors]
doors[-1].sendall(HEAD + BODY)
print(set(told) == {{b"HTTP/1.1 200 OK"}}, doors[-1].recv(1 << 16)[:15])
"""
    [outcome] = host().solve(command(script, limits={"seconds": 60}), tasks(1), Model(), None, [1])
    assert (outcome.answer, outcome.requests) == ("True b'HTTP/1.1 200 OK'", 91), outcome


def test_an_interpreter_that_does_not_start_is_named() -> None:
    from moevolve.errors import SandboxError, UsageError

    with pytest.raises(SandboxError, match="ModuleNotFoundError: No module named 'nowhere'"):
        host().solve(command(preload=["nowhere"]), tasks(1), Model(), None, [1])
    with pytest.raises(UsageError, match="names no interpreter"):
        host().solve(command(python="/nowhere"), tasks(1), Model(), None, [1])


def test_a_machine_without_user_namespaces_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from moevolve import _native
    from moevolve.errors import SafetyError

    told = {"layers": [], "missing": ["user namespace", "private root"]}
    monkeypatch.setattr(_native, "probe", lambda: told)
    genome = Genome(
        files={
            "agent.toml": 'kind = "command"\nargv = ["/bin/sh", "a.sh"]\n',
            "a.sh": f"touch {tmp_path}/ran",
        }
    )
    with pytest.raises(SafetyError, match="user namespace, private root. Nothing was run"):
        host().solve(genome, [PublicTask(prompt="x", skill="a/b")], Model(), None, [1])
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_a_nursery_that_is_gone_is_started_again_and_ends_with_its_owner() -> None:
    import asyncio
    import gc

    from moevolve.agents.box import nursery

    async def rest() -> None:
        await asyncio.sleep(0)

    owner = host()
    assert answers(owner.solve(command(), tasks(1), Model(), None, [1])) == ["1"]
    [held] = owner.boxes._nurseries.values()
    first = held._process
    assert first is not None
    first.kill()
    first.wait()
    asyncio.run_coroutine_threadsafe(rest(), nursery.loop()).result()
    assert answers(owner.solve(command(), tasks(2), Model(), None, [1, 2])) == ["1", "3"]
    second = held._process
    assert second is not None and second.pid != first.pid
    del owner, held
    gc.collect()
    assert second.wait(30) != 0


def test_nothing_outlives_a_host_that_is_killed() -> None:
    import select
    import signal
    import subprocess

    fixtures = Path(__file__).parents[2] / "fixtures"
    script = "import os, time\nos.fork(); os.setsid() if os.fork() == 0 else None\ntime.sleep(10_000)"
    code = (
        f"import sys; sys.path.insert(0, {str(fixtures)!r})\n"
        "from boxed import Model, command, host, tasks\n"
        f"print('begin', flush=True)\nhost().solve(command({MARK + script!r}), tasks(4), Model(), None, range(4))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=dict(os.environ))
    assert child.stdout is not None and child.stdout.readline() == b"begin\n"
    while len(boxed_processes()) < 4:
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    # The kernel ends one after the other: each is waited for, those that were being made among them.
    while left := boxed_processes():
        for process in left:
            try:
                handle = os.pidfd_open(int(process))
            except ProcessLookupError:
                continue
            assert select.select([handle], [], [], 60)[0], "it outlives its host"
            os.close(handle)


def test_requests_that_are_refused_are_bounded_in_bytes_and_the_record_says_the_same(tmp_path: Path) -> None:
    deed = "[ask(os.urandom(1 << 19).hex(), path='/v1/agent/x')[0] for _ in range(20)]"
    script = f"{ASK}\nprint({deed})\n"
    record = tmp_path / "attempts.tape"

    def solved() -> Outcome:
        role = RoleSection(prompt_chars=50_000, requests=20)
        boxed = ProgramHost(RolesSection(solver=role), boxes=BoxHost(Records(record)))
        [outcome] = boxed.solve(command(script), tasks(1), Model(), None, [1])
        boxed.boxes.close()
        return outcome

    first = solved()
    assert first.failure == "malformed" and "its requests came to more than" in first.detail
    assert record.stat().st_size < 10 << 20
    assert solved() == first


def test_requests_under_way_have_a_bound_together() -> None:
    with socket.socket() as listener:
        door = Door(listener, None)  # type: ignore[arg-type]
        door.hold(MOST_HELD)
        with pytest.raises(Malformed, match="32 MiB together"):
            door.hold(1)
        door.hold(-MOST_HELD)
        door.hold(1)


def test_where_memory_runs_out_a_box_goes_before_anybody_else() -> None:
    script = "print(open('/proc/self/oom_score_adj').read())"
    assert answers(host().solve(command(script), tasks(1), Model(), None, [1])) == ["1000"]
