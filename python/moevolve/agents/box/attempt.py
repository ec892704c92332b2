"""A boxed attempt as jobs of the nursery, and its end as an outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Any

import msgspec

from moevolve.agents.attempt import Attempt
from moevolve.agents.box.interpreter import Interpreter
from moevolve.agents.box.running import Ended, job
from moevolve.agents.box.workspace import Workspace
from moevolve.agents.genome import Genome
from moevolve.agents.manifest import BoxLimits, Manifest
from moevolve.config.roles import RoleSection
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import PublicTask
from moevolve.randomness import key

ADDRESS = "http://127.0.0.1:8000/v1"
NODES_PER_MB = 256
LEAST_NODES = 4096
OPEN_FILES = 1024
PAGE = 4096
LIMIT = "limit"
"""Failure of an attempt that reached a limit of its box; the detail names it."""
SECONDS = 120.0
"""Of an attempt where neither the run's file nor `agent.toml` says another number."""
TAIL = 500
"""Characters of what an agent said last that stand beside its failure."""


class BoxedAttempt(Attempt):
    """The host's account of an attempt in a box: what it is answered depends on what it asks, not on when."""

    __slots__ = ("_asked", "_called", "_pasts", "heard")

    def __init__(self, skill: str, attempt_key: int, limits: RoleSection, session: int | None = None) -> None:
        super().__init__(skill, attempt_key, "solver", limits, session=session)
        self._asked: Counter[str] = Counter()
        self._called: Counter[bytes] = Counter()
        self._pasts: dict[tuple[bytes, int], bytes] = {}
        self.heard = False
        """Its requests are those on record: the policy was asked each of them."""

    @property
    def asks(self) -> bool:
        """Whether its requests are put to the table: it is open, or they went there beside the one that ended it."""
        return self.open or (self.heard and self.dismissed and self.failure != "budget")

    def grant(self) -> bool:
        if self.open or not self.asks:
            return super().grant()
        self.requests += 1
        return True

    def request_key(self, arguments: bytes) -> int:
        digest = blake2b(arguments, digest_size=16).hexdigest()
        self._asked[digest] += 1
        return key(self.key, "request", digest, self._asked[digest])

    def follow(self, calls: Iterable[bytes]) -> None:
        """Gives calls the pasts that they had in a first run, whose calls these are: a second run may mix them otherwise."""
        first = Attempt(self.skill, self.key, self.role, self.limits)
        seen: Counter[bytes] = Counter()
        for call in calls:
            name = _name(call)
            seen[name] += 1
            self._pasts[name, seen[name]] = first.past(call)

    def past(self, call: bytes) -> bytes:
        name = _name(call)
        self._called[name] += 1
        before = super().past(call)
        return self._pasts.get((name, self._called[name]), before)


def _name(call: bytes) -> bytes:
    return blake2b(call, digest_size=16).digest()


class Answered(msgspec.Struct, frozen=True):
    """An attempt's end: an answer, or a failure with its detail."""

    answer: str | None
    failure: str | None
    detail: str


def _input(manifest: Manifest, how: str, task: PublicTask) -> bytes:
    if manifest.kind == "command" and how == "json":
        return _conversation(task)
    return task.prompt.encode("utf-8", "replace") if manifest.kind == "class" or how == "stdin" else b""


def _conversation(task: PublicTask) -> bytes:
    """A task as JSON: its prompt, and the conversation that ends in it, in the form of `tasks.jsonl`."""
    messages = task.messages or (Message("user", task.prompt),)
    return msgspec.json.encode({"prompt": task.prompt, "messages": messages})


def job_of(
    manifest: Manifest, genome: Genome, task: PublicTask, attempt_key: int, interpreter: Interpreter
) -> dict[str, Any]:
    """The job of one attempt on a task."""
    text = task.prompt.encode("utf-8", "replace")
    workspace = dict(task.files)
    argv = [_in_box(argument, genome, interpreter) for argument in manifest.argv]
    how, _, name = manifest.task.partition(":")
    if manifest.kind == "command" and how in ("argument", "argv"):
        argv.append(task.prompt.replace("\0", ""))
    elif manifest.kind == "command" and how == "file":
        workspace[name] = text
    fields: dict[str, Any] = {
        "files": genome.files,
        "workspace": workspace,
        "stdin": _input(manifest, how, task),
        "environment": {**environment(interpreter), **manifest.environment},
        "seed": key(attempt_key, "rng") & ((1 << 62) - 1),
        "limits": limits_of(manifest.limits),
    }
    if manifest.kind == "class":
        return job("class", argv=[manifest.entry], entry=manifest.entry, **fields)
    if manifest.warm:
        return job("script", argv=argv[1:], **fields)
    return job("execute", argv=argv, **fields)


def time_of(manifest: Manifest, role: RoleSection) -> float:
    """Seconds that an attempt may take, the policy's time left out: the stricter of the role's and the agent's own."""
    named = [each for each in (role.seconds, manifest.limits.seconds) if each is not None]
    return min(named, default=SECONDS)


def crowded(limits: BoxLimits, workspace: Mapping[str, bytes]) -> str | None:
    """Why a workspace cannot begin with some files; None where it can."""
    room = limits_of(limits)
    size = sum(-(-len(data) // PAGE) * PAGE for data in workspace.values())
    folders = {str(parent) for path in workspace for parent in PurePosixPath(path).parents}
    if size > room["workspace"] or len(workspace) + len(folders) > room["nodes"]:
        return f"its task's files alone do not fit into limits.workspace_mb = {limits.workspace_mb}"
    if both := sorted(folders & set(workspace)):
        return f"its task has a folder {both[0]!r}, where the file with the task belongs"
    return None


def environment(interpreter: Interpreter) -> dict[str, str]:
    """What every box has; keys of servers stay outside."""
    return {
        "OPENAI_BASE_URL": ADDRESS,
        "OPENAI_API_BASE": ADDRESS,
        "OPENAI_API_KEY": "none",
        # Nothing here speaks TLS, and loading certificates takes a client longer than its request.
        "SSL_CERT_DIR": "/run",
        "HOME": "/box/work",
        "TMPDIR": "/tmp",
        "USER": "agent",
        "PATH": f"{interpreter.folder}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def limits_of(limits: BoxLimits) -> dict[str, int]:
    """The limits of a box, as its init holds them."""
    return {
        "workspace": limits.workspace_mb << 20,
        "nodes": max(LEAST_NODES, NODES_PER_MB * limits.workspace_mb),
        "memory": limits.memory_mb << 20,
        "cpu": limits.cpu_seconds,
        "processes": limits.processes,
        "files": OPEN_FILES,
    }


def answered(manifest: Manifest, ended: Ended, workspace: Workspace | None, role: RoleSection) -> Answered:
    """What an ended box comes to.

    Args:
        manifest: where the answer is.
        ended: how it ended.
        workspace: what it left.
        role: what an attempt may take and say.
    """
    limits = manifest.limits
    if ended.timeout:
        seconds = time_of(manifest, role)
        whose = "limits.seconds of agent.toml" if seconds == limits.seconds else "roles.solver.seconds"
        return _failed(
            "timeout", f"it took more than {seconds:g} s, the policy's time left out ({whose} says so)"
        )
    if ended.limit is not None:
        return _failed(LIMIT, f"it reached limits.{ended.limit} = {getattr(limits, ended.limit)}")
    said = _said(ended)
    if ended.code != 0 and ended.full:
        return _failed(LIMIT, f"its workspace is full: limits.workspace_mb = {limits.workspace_mb}{said}")
    if ended.signal is not None:
        return _failed("crash", f"it was ended by signal {ended.signal}{said}")
    if ended.code != 0:
        return _failed("error", f"it ended with code {ended.code}{said}")
    data = _answer(manifest, ended, workspace, 4 * role.answer_chars)
    if data is None:
        return _failed(
            "malformed", f"it left no plain file {manifest.answer.partition(':')[2]!r} as its answer{said}"
        )
    return Answered(data.decode("utf-8", "replace").strip(), None, "")


def _answer(manifest: Manifest, ended: Ended, workspace: Workspace | None, most: int) -> bytes | None:
    if manifest.kind == "class":
        return ended.answer
    how, _, name = manifest.answer.partition(":")
    if how == "file":
        return None if workspace is None else workspace.read(name, most)
    if not name:
        return ended.output
    lines = ended.output.rstrip().splitlines()
    return lines[-1] if lines else b""


def _failed(failure: str, detail: str) -> Answered:
    return Answered(None, failure, detail[:2000])


def _said(ended: Ended) -> str:
    text = (ended.errors or ended.output).decode("utf-8", "replace").strip()[-TAIL:]
    return f": {text}" if text else ""


def _in_box(argument: str, genome: Genome, interpreter: Interpreter) -> str:
    if argument in ("python", "python3"):
        return interpreter.program
    return f"/box/agent/{argument}" if argument in genome.files else argument
