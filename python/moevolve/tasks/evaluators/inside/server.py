"""The warm process of an evaluator: it has the evaluator's modules imported, and each evaluation is a fork of it.

Only the fork runs a program. It is the only other thing in the process namespace, so that when it has ended, or is at a
limit, everything that it started is killed with it. What the server hears from a fork it passes on unread.

Half of what an evaluation costs beyond its evaluator are pages that a fork and its parent both write to, be it a reference
count. So this process imports little, and between two forks it calls few functions and makes few objects.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from _signal import signal as handle  # type: ignore[import-not-found]  # `signal.signal` makes enumerations of numbers.
from contextlib import suppress
from struct import Struct

from moevolve.tasks.evaluators.inside import contracts, draws, keyrings, walls
from moevolve.tasks.evaluators.inside.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from typing import Any

    from moevolve.tasks.evaluators.inside.own import OwnFolders

GRACE = 0.25
"""Seconds in which processes that an evaluation started may end after it."""
PROGRAM = "/tmp/candidate"
ASKED = Struct("<IQ")
"""Head of a request: bytes of the program, and what generators start from."""
TOLD = Struct("<IIIIdd")
"""Head of an answer: bytes of a failure, its detail, what was printed, and a fork's reply; processor seconds of the
evaluation, and of the server since it was started."""
AT_ONCE = 1 << 17
BOUND = "LD_BIND_NOW"
"""Lets the loader bind all functions as the process starts, and not each fork those that it calls."""
ONLY_AST = 0x400
"""`ast.PyCF_ONLY_AST`, without that module."""


def main(channel: int) -> None:
    """Serves a host until it is gone.

    Args:
        channel: a socket with frames of JSON in both directions.
    """
    os.environ.pop(BOUND, None)  # What an evaluator starts binds as it would.
    order = json.loads(_read(channel)[0])
    missing = walls.refused(order["readable"]) if order["walls"] else "not wanted"
    if missing and order["strict"]:
        _introduce(channel, {"problem": f"no namespaces: {missing}", "missing": missing})
        return
    if not missing:
        walls.apart()
        walls.die_with_parent()
        child = os.fork()  # A namespace of processes begins with a child.
        if child:
            os.close(channel)
            os.waitpid(child, 0)
            os._exit(0)
        walls.die_with_parent()
    walls.closed_to_others()
    Server(channel, order, missing, keyrings=not keyrings.shut()).serve()


class Server:
    """Evaluations of one evaluator, one at a time.

    Args:
        channel: the host's.
        order: what the host said first: paths, contract, limits.
        missing: why there are no namespaces; empty where there are.
        keyrings: whether evaluations can reach the kernel's keyrings.
    """

    def __init__(self, channel: int, order: dict[str, Any], missing: str, *, keyrings: bool) -> None:
        self._channel = channel
        self._order = order
        self._missing = missing
        self._keyrings = keyrings
        self._limits = limits = order["limits"]
        most = {
            resource.RLIMIT_AS: limits["memory"],
            resource.RLIMIT_CPU: int(limits["seconds"] * max(1, limits["processes"])) + 1,
            resource.RLIMIT_FSIZE: limits["disk"],
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: 1024,
            # A queue of messages outlives whoever opened it.
            resource.RLIMIT_MSGQUEUE: 0,
        }
        if not missing:
            # Elsewhere this counts whatever the user runs; the watch counts what is the evaluation's.
            most[resource.RLIMIT_NPROC] = limits["processes"]
        self._bounds = walls.bounds(most)
        self._unseen = ""
        """Why the processes of an evaluation cannot be counted; empty where they can."""
        self._module: types.ModuleType | None = None
        self._generator: Any = None
        """That of `random`."""
        self._initial = ""
        self._own: OwnFolders | None = None
        """Where there are no namespaces."""
        self._home = PROGRAM
        """Folder of candidates."""
        self._scratch: walls.Scratch | None = None
        self._settle(order["inside"])

    def _settle(self, folder: str) -> None:
        """Notes where the evaluator lies, and where candidates do."""
        self._folder = folder
        self._evaluator = f"{folder}/{self._order['evaluator']}"
        self._program = f"{self._home}/{self._order['program']}"

    def serve(self) -> None:
        # A module that never ends its import would outlive a host that has gone.
        signal.alarm(self._order["start_seconds"] + 1)
        problem = contracts.safely(self._start)["detail"]
        signal.alarm(0)
        told = {
            "problem": problem,
            "missing": self._missing,
            "unseen": self._unseen,
            "keyrings": "open" if self._keyrings else "",
            "initial": self._initial,
        }
        _introduce(self._channel, told)
        if problem:
            self._leave()
            return
        while True:
            try:
                text, key = _read(self._channel)
            except EOFError:
                self._leave()
                return
            _write(self._channel, self._evaluated(text, key))

    def _start(self) -> dict[str, Any]:
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        self._generator = draws.generator()  # Before any other module imports `random`.
        if self._missing:
            # It maps much that every fork would pay for.
            from moevolve.tasks.evaluators.inside.own import OwnFolders

            walls.adopt()
            self._own = OwnFolders(self._order["folder"])
            self._home = self._own.home
            self._settle(self._own.folder)
        else:
            kept = walls.private_root(self._order["readable"])
            self._unseen = walls.unseen()
            if self._unseen and self._order["strict"]:
                raise contracts.Unusable("error", f"no processes to be seen: {self._unseen}")
            walls.few_processes(self._limits["processes"])
            self._scratch = walls.Scratch(self._limits["disk"], self._folder, kept)
        # A fork must not reach this process by a signal; what nobody handles does not reach the first of a namespace.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        sys.path[:0] = [self._folder]
        if self._order["contract"] == "gepa":
            from moevolve.tasks.evaluators.inside import gepa

            self._module = contracts.load(self._evaluator)
            self._initial = gepa.initial(self._module)
        elif self._order["contract"] == "openevolve":
            self._module = contracts.load(self._evaluator)
            if not callable(getattr(self._module, "evaluate", None)):
                raise contracts.Unusable(
                    "error", f"{self._evaluator} defines no function evaluate(program_path)"
                )
            contracts.check_arguments(self._module, self._order["settings"])
        else:
            import runpy  # noqa: F401  each fork needs it

            _preload(self._evaluator)
        if "numpy" in sys.modules:
            with suppress(Exception):
                __import__("numpy.random")  # It comes when it is first used, which would be in each fork.
        gc.collect()
        gc.freeze()
        return contracts.reply()

    def _evaluated(self, text: bytes, key: int) -> bytes:
        """What became of an evaluation, as it is told to the host."""
        if self._scratch is not None:
            walls.forget_shared()
            self._scratch.clear(self._home, self._program)
            os.mkdir(self._home)
        elif self._own is not None:
            self._own.clear()
        _wrote(self._program, text)
        inlet, outlet = os.pipe()
        heard, said = os.pipe()
        before = time.monotonic()
        child = os.fork()
        if not child:
            for descriptor in (inlet, heard, self._channel):
                os.close(descriptor)
            self._run(text, key, outlet, said)
        os.close(outlet)
        os.close(said)
        watch = Watch(self._channel, inlet, heard, child, self._limits, before, alone=not self._missing)
        failure = watch.follow()
        left = self._sweep(watch, patient=failure is None)
        if watch.hostless:
            self._leave()
            os._exit(0)
        os.close(inlet)
        os.close(heard)
        most = self._limits["processes"]
        if failure is None and left > most:
            failure = ("processes", f"it left {left} processes, and may have {most} at once")
        elif failure is None and left:
            failure = ("left_processes", f"{left} of its processes were still running when it had ended")
        elif failure is None and not watch.reply:
            failure = ("crashed", _ending(watch.status))
        if failure is None:
            return _told(b"", b"", watch.output, watch.reply, watch.cpu)
        return _told(failure[0].encode(), failure[1].encode(), watch.output, bytearray(), watch.cpu)

    def _leave(self) -> None:
        """Takes away what lies outside of namespaces."""
        if self._own is not None:
            self._own.leave()

    def _sweep(self, watch: Watch, *, patient: bool) -> int:
        """Kills whatever is left of an evaluation; returns how many processes that were, its own not counted."""
        running = watch.reap()
        if running and patient:
            deadline = time.monotonic() + GRACE
            while running and time.monotonic() < deadline:
                time.sleep(0.005)
                running = watch.reap()
        left = 0
        while running:
            others = [pid for pid in watch.family() if pid != watch.child]
            left = max(left, len(others), 1)  # Something runs, whether it can be seen or not.
            self._kill(watch)
            time.sleep(0.001)
            running = watch.reap()
        return left if patient else 0

    def _kill(self, watch: Watch) -> None:
        if not self._missing:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            return
        for pid in watch.family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _run(self, text: bytes, key: int, outlet: int, said: int) -> None:
        """In the fork: one evaluation, its reply, and the end."""
        try:
            if self._missing:
                walls.die_with_parent()
            os.setsid()
            handle(signal.SIGINT, signal.default_int_handler)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.close(said)
            walls.ordinary(self._bounds)
            found = contracts.safely(lambda: self._asked(text, key))
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            body = memoryview(_encoded(found).encode("utf-8", "replace"))
            while body:
                body = body[os.write(outlet, body) :]
        finally:
            os._exit(0)

    def _asked(self, text: bytes, key: int) -> dict[str, Any]:
        draws.reseed(self._generator, key)
        settings, program = self._order["settings"], self._program
        if self._order["contract"] == "openevolve":
            assert self._module is not None, "it has been imported"
            return contracts.openevolve(self._module, program, settings)
        if self._order["contract"] == "gepa":
            from moevolve.tasks.evaluators.inside import gepa

            assert self._module is not None, "it has been imported"
            return gepa.evaluate(self._module, text.decode("utf-8", "surrogatepass"))
        results = f"{self._home}/results"
        os.mkdir(results)
        return contracts.shinka(self._evaluator, program, results, settings.get("arguments", []))


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"the process was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"the process ended with status {os.WEXITSTATUS(status)} before the evaluator returned"


def _preload(path: str) -> None:
    """Imports what a file imports at its top, so that each fork has it; what cannot be is the fork's business."""
    with suppress(SyntaxError), open(path, "rb") as file:
        for node in compile(file.read(), path, "exec", ONLY_AST, dont_inherit=True).body:
            names: list[str] = []
            if type(node).__name__ == "Import":
                names = [alias.name for alias in node.names]
            elif type(node).__name__ == "ImportFrom" and node.module and not node.level:
                names = [node.module]
            for name in names:
                with suppress(Exception):
                    __import__(name)


_encoded = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
"""A reply as text; what of it is no Unicode is replaced when it becomes bytes."""


def _wrote(path: str, text: bytes) -> None:
    """Writes a program where nothing is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        while text:
            text = text[os.write(descriptor, text) :]
    finally:
        os.close(descriptor)


def _read(channel: int) -> tuple[bytes, int]:
    """(body, key) of the host's next words, which come one at a time.

    Raises:
        EOFError: the host is gone.
    """
    data = b""
    while len(data) < ASKED.size or len(data) < ASKED.size + ASKED.unpack_from(data)[0]:
        part = os.read(channel, AT_ONCE)
        if not part:
            raise EOFError
        data += part
    return data[ASKED.size :], ASKED.unpack_from(data)[1]


def _introduce(channel: int, told: dict[str, str]) -> None:
    """Says whether the evaluator can be used, before the first request."""
    _write(channel, _told(b"", b"", bytearray(), bytearray(json.dumps(told).encode()), 0.0))


def _told(failure: bytes, detail: bytes, output: bytearray, reply: bytearray, cpu: float) -> bytes:
    lengths = len(failure), len(detail), len(output), len(reply)
    return b"".join((TOLD.pack(*lengths, cpu, time.process_time()), failure, detail, output, reply))


def _write(channel: int, data: bytes) -> None:
    while data:
        data = data[os.write(channel, data) :]
