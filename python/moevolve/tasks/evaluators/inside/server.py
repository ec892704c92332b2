"""The warm process of an evaluator: it has the evaluator's modules imported, and each evaluation is a fork of it.

Only the fork runs a program. It is the only other thing in the process namespace, so that when it has ended, or is at a
limit, everything that it started is killed with it. What the server hears from a fork it passes on unread.
"""

from __future__ import annotations

import ast
import gc
import importlib
import json
import os
import random
import resource
import signal
import struct
import sys
import time
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

from moevolve.tasks.evaluators.inside import contracts, gepa, walls
from moevolve.tasks.evaluators.inside.watch import Watch

GRACE = 0.25
"""Seconds in which processes that an evaluation started may end after it."""
PROGRAM = "/tmp/candidate"


def main(channel: int) -> None:
    """Serves a host until it is gone.

    Args:
        channel: a socket with frames of JSON in both directions.
    """
    order = _read(channel)
    missing = ""
    if order["walls"]:
        try:
            walls.apart()
        except OSError as error:
            missing = str(error)
    else:
        missing = "not wanted"
    if missing and order["strict"]:
        _write(channel, {"problem": f"no namespaces: {missing}", "missing": missing})
        return
    if not missing:
        walls.die_with_parent()
        child = os.fork()  # A namespace of processes begins with a child.
        if child:
            os.close(channel)
            os.waitpid(child, 0)
            os._exit(0)
        walls.die_with_parent()
    walls.closed_to_others()
    Server(channel, order, missing).serve()


class Server:
    """Evaluations of one evaluator, one at a time.

    Args:
        channel: the host's.
        order: what the host said first: paths, contract, limits.
        missing: why there are no namespaces; empty where there are.
    """

    def __init__(self, channel: int, order: dict[str, Any], missing: str) -> None:
        self._channel = channel
        self._order = order
        self._missing = missing
        self._limits = limits = order["limits"]
        self._bounds = walls.bounds(
            {
                resource.RLIMIT_AS: limits["memory"],
                resource.RLIMIT_CPU: int(limits["seconds"] * max(1, limits["processes"])) + 1,
                resource.RLIMIT_FSIZE: limits["disk"],
                resource.RLIMIT_CORE: 0,
                resource.RLIMIT_NPROC: limits["processes"],
                resource.RLIMIT_NOFILE: 1024,
                # A queue of messages outlives whoever opened it.
                resource.RLIMIT_MSGQUEUE: 0,
            }
        )
        self._module: types.ModuleType | None = None
        self._initial = ""
        self._own = ""
        """Folder of candidates where there are no namespaces: the server's own, which goes with it."""
        self._program = Path(PROGRAM, order["program"])
        self._scratch: walls.Scratch | None = None
        self._folder: str = order["folder"] if missing else order["inside"]
        self._evaluator = f"{self._folder}/{order['evaluator']}"

    def serve(self) -> None:
        # A module that never ends its import would outlive a host that has gone.
        signal.alarm(self._order["start_seconds"] + 1)
        problem = contracts.safely(self._start)["detail"]
        signal.alarm(0)
        _write(self._channel, {"problem": problem, "missing": self._missing, "initial": self._initial})
        if problem:
            self._leave()
            return
        while True:
            try:
                request = _read(self._channel)
            except EOFError:
                self._leave()
                return
            head, body = self._evaluated(request)
            _write(self._channel, head, body)

    def _start(self) -> dict[str, Any]:
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        if self._missing:
            walls.adopt()
            os.chdir(self._folder)
            self._own_folder()
        else:
            kept = walls.private_root([(source, target) for source, target in self._order["readable"]])
            walls.few_processes(self._limits["processes"])
            self._scratch = walls.Scratch(self._limits["disk"], self._folder, kept)
        for number in (signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        sys.path[:0] = [self._folder]
        random.seed(0)
        if self._order["contract"] == "gepa":
            self._module = contracts.load(self._evaluator)
            self._initial = gepa.initial(self._module)
        elif self._order["contract"] == "openevolve":
            self._module = contracts.load(self._evaluator)
            if not callable(getattr(self._module, "evaluate", None)):
                raise contracts.Unusable(
                    "error", f"{self._evaluator} defines no function evaluate(program_path)"
                )
        else:
            _preload(self._evaluator)
        gc.collect()
        gc.freeze()
        return contracts.reply()

    def _evaluated(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """(what became of an evaluation, the fork's reply)."""
        if self._scratch is not None:
            walls.forget_shared()
            self._scratch.clear(self._program)
            self._program.parent.mkdir()
        else:
            self._leave()
            self._own_folder()
        _wrote(self._program, request["program"])
        inlet, outlet = os.pipe()
        heard, said = os.pipe()
        before = time.monotonic()
        child = os.fork()
        if not child:
            for descriptor in (inlet, heard, self._channel):
                os.close(descriptor)
            self._run(request, outlet, said)
        os.close(outlet)
        os.close(said)
        watch = Watch(self._channel, inlet, heard, child, self._limits, before, alone=not self._missing)
        failure = watch.follow()
        left = self._sweep(watch, patient=failure is None)
        if watch.hostless:
            self._leave()
            os._exit(0)
        for descriptor in (inlet, heard):
            os.close(descriptor)
        most = self._limits["processes"]
        if failure is None and left > most:
            failure = ("processes", f"it left {left} processes, and may have {most} at once")
        elif failure is None and left:
            failure = ("left_processes", f"{left} of its processes were still running when it had ended")
        elif failure is None and not watch.reply:
            failure = ("crashed", _ending(watch.status))
        head = {
            "failure": failure and failure[0],
            "detail": failure and failure[1],
            "output": bytes(watch.output).decode("utf-8", "replace"),
            "seconds": time.monotonic() - before,
            "cpu": watch.cpu,
            "own_cpu": time.process_time(),
        }
        return head, bytes(watch.reply) if failure is None else b""

    def _own_folder(self) -> None:
        """Makes a folder for a candidate outside of namespaces."""
        import tempfile  # It maps libraries that every fork would pay for.

        self._own = tempfile.mkdtemp(prefix="moevolve-evaluation-")
        self._program = Path(self._own, self._order["program"])

    def _leave(self) -> None:
        """Takes away what lies outside of namespaces."""
        if self._own:
            import shutil

            _opened(self._own)
            with suppress(RecursionError):  # It was made too deep to be taken away.
                shutil.rmtree(self._own, ignore_errors=True)

    def _sweep(self, watch: Watch, *, patient: bool) -> int:
        """Kills whatever is left of an evaluation; returns how many processes that were, its own not counted."""
        deadline = time.monotonic() + GRACE
        while patient and watch.reap() and time.monotonic() < deadline:
            time.sleep(0.005)
        left = 0
        while watch.reap():
            others = [pid for pid in watch.family() if pid != watch.child]
            left = max(left, len(others))
            self._kill(watch)
            time.sleep(0.001)
        return left if patient else 0

    def _kill(self, watch: Watch) -> None:
        if not self._missing:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            return
        for pid in watch.family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _run(self, request: dict[str, Any], outlet: int, said: int) -> None:
        """In the fork: one evaluation, its reply, and the end."""
        try:
            walls.die_with_parent()
            os.setsid()
            # As a Python program finds them; the server itself must not be reached by what its forks send.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.close(said)
            walls.ordinary(self._bounds)
            found = contracts.safely(lambda: self._asked(request))
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            body = memoryview(_encoded(found).encode("utf-8", "replace"))
            while body:
                body = body[os.write(outlet, body) :]
        finally:
            os._exit(0)

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        _reseed(request["key"])
        settings, program = self._order["settings"], str(self._program)
        if self._order["contract"] == "gepa" and self._module is not None:
            return gepa.evaluate(self._module, request["program"])
        if self._module is not None:
            return contracts.openevolve(self._module, program, settings)
        results = self._program.parent / "results"
        results.mkdir()
        return contracts.shinka(self._evaluator, program, str(results), settings.get("arguments", []))


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"the process was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"the process ended with status {os.WEXITSTATUS(status)} before the evaluator returned"


def _opened(folder: str) -> None:
    """Makes folders readable that a program has closed, so that they can be taken away."""
    waiting = [folder]
    while waiting:
        with suppress(OSError):
            path = Path(waiting.pop())
            path.chmod(0o700)
            waiting += [each.path for each in os.scandir(path) if each.is_dir(follow_symlinks=False)]


def _reseed(key: int) -> None:
    """Starts the generators that a program may draw from without a seed of its own."""
    random.seed(key)
    # A module beside the evaluator may bear its name.
    seed = getattr(getattr(sys.modules.get("numpy"), "random", None), "seed", None)
    if callable(seed):
        seed(key & 0xFFFFFFFF)


def _preload(path: str) -> None:
    """Imports what a file imports at its top, so that each fork has it; what cannot be is the fork's business."""
    with suppress(SyntaxError):
        for node in ast.parse(Path(path).read_bytes()).body:
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                with suppress(Exception):
                    importlib.import_module(name)


_encoded = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
"""A reply as text; what of it is no Unicode is replaced when it becomes bytes."""


def _wrote(path: Path, text: str) -> None:
    """Writes a program where nothing is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        data = memoryview(text.encode("utf-8", "surrogatepass"))
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _read(channel: int) -> dict[str, Any]:
    (length,) = struct.unpack("<I", _exactly(channel, 4))
    found: dict[str, Any] = json.loads(_exactly(channel, length))
    return found


def _exactly(channel: int, count: int) -> bytes:
    parts = []
    while count:
        part = os.read(channel, min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _write(channel: int, head: dict[str, Any], body: bytes = b"") -> None:
    """One frame: two lengths, the server's words, the fork's."""
    said = json.dumps(head).encode()
    data = memoryview(struct.pack("<II", len(said), len(body)) + said + body)
    while data:
        data = data[os.write(channel, data) :]
