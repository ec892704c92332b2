"""An evaluator's warm process, seen from the host: programs in, evaluations out, one at a time.

Several of them work side by side; a caller waits for whichever is ready (`fileno`). What a program does to its evaluation
costs that evaluation alone; if the whole process dies, the next evaluation starts another.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from moevolve.errors import SafetyError, SandboxError, UsageError
from moevolve.records import Sandbox
from moevolve.tasks.evaluators.folder import EvaluatorFolder
from moevolve.tasks.evaluators.inside.server import ASKED, BOUND, TOLD
from moevolve.tasks.evaluators.inside.walls import SYSTEM
from moevolve.tasks.evaluators.verdict import FAILURES, Evaluation, Failure, evaluation_of
from moevolve.tasks.grader.carried import package_folders

START_SECONDS = 120
"""Most seconds of the evaluator's own imports."""
SLACK = 15.0
"""Seconds beyond the time limit after which a process that says nothing counts as broken."""
MOST_FRAME = 8 << 20
AT_ONCE = 1 << 16
STANDINS = Path(__file__).resolve().parent / "standins"
BOOT = "import sys; sys.path[:0] = {path!r}; from moevolve.tasks.evaluators.inside.server import main; main({channel})"
FLAGS = ["-P", "-s", "-S", "-B", "-X", "utf8"]
NAMESPACES = tuple(f"{name} namespace" for name in ("user", "mount", "pid", "network", "ipc", "uts"))
"""What `walls.apart` makes, all or none, by the names that other programs' layers have."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class EvaluatorLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one evaluation may take, its processes together."""

    seconds: Annotated[float, Meta(gt=0, le=1e9)] = 300.0
    memory_mb: Annotated[int, Meta(ge=16, le=1 << 30)] = 2048
    """Memory of all its processes, and address space of each."""
    processes: Annotated[int, Meta(ge=1, le=1 << 20)] = 64
    output_kb: Annotated[int, Meta(ge=1, le=1 << 30)] = 1024
    """What it may print."""
    disk_mb: Annotated[int, Meta(ge=1, le=1 << 30)] = 256
    """Temporary files; they lie in memory."""
    strict: bool = False
    """Refuse a machine without namespaces."""


class EvaluatorProcess:
    """One warm process; it belongs to the thread that starts it and dies with it.

    Args:
        folder: the evaluator.
        limits: of each evaluation.
        walls: False leaves out namespaces, as on a machine that has none.
    """

    def __init__(self, folder: EvaluatorFolder, limits: EvaluatorLimits, *, walls: bool = True) -> None:
        self._folder = folder
        self._limits = limits
        self._walls = walls
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._deadline = 0.0
        self._heard = bytearray()
        """Said, and not yet read."""
        self.missing = ""
        """Why there are no namespaces around it; empty where there are."""
        self.unseen = ""
        """Why its processes cannot be counted, nor their memory together; empty where they can."""
        self._keyrings = False
        """Whether its evaluations can reach the kernel's keyrings."""
        self.initial = ""
        """The first candidate, where the evaluator's file itself says it."""
        self.cpu = 0.0
        """Processor seconds of the evaluations so far."""
        self.own_cpu = 0.0
        """Processor seconds of the process itself, its start included."""

    def start(self) -> None:
        """Starts the process, unless it runs.

        Raises:
            UsageError: the evaluator cannot be imported; says why.
            SafetyError: `strict`, and the machine has no namespaces, or refuses a /proc in them.
            SandboxError: the process dies before it serves.
        """
        if self._process is not None:
            return
        ours, theirs = socket.socketpair()
        path = [str(STANDINS), *map(str, package_folders())]
        standard = [
            each
            for each in sys.path
            if each and Path(each).is_dir() and str(each).startswith(sys.base_prefix)
        ]
        boot = BOOT.format(path=path, channel=theirs.fileno())
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *FLAGS, "-c", boot],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=self._environment(path),
                start_new_session=True,
            )
        self._channel = ours
        order = {
            "walls": self._walls,
            "strict": self._limits.strict,
            "start_seconds": START_SECONDS,
            "folder": str(self._folder.path),
            "inside": self._inside,
            "evaluator": self._folder.evaluator,
            "program": self._folder.program,
            "contract": self._folder.contract,
            "settings": self._folder.settings,
            "readable": self._readable(standard),
            "limits": {
                "seconds": self._limits.seconds,
                "memory": self._limits.memory_mb << 20,
                "processes": self._limits.processes,
                "output": self._limits.output_kb << 10,
                "disk": self._limits.disk_mb << 20,
            },
        }
        self._send(msgspec.json.encode(order))
        try:
            told: dict[str, str] = msgspec.json.decode(self._frame(time.monotonic() + START_SECONDS)[3])
        except (TimeoutError, EOFError) as error:
            self.close()
            raise SandboxError(
                f"the process of {self._folder.evaluator} was not ready within {START_SECONDS} s"
                if isinstance(error, TimeoutError)
                else f"the process of {self._folder.evaluator} died while its modules were imported"
            ) from None
        self.missing = told["missing"]
        self.unseen = told.get("unseen", "")
        self._keyrings = bool(told.get("keyrings"))
        self.initial = told.get("initial", "")
        if told["problem"]:
            self.close()
            if (self.missing or self.unseen) and self._limits.strict:
                raise SafetyError(f"evaluator.strict is set, and there are {told['problem']}")
            raise UsageError(
                f"{self._folder.path / self._folder.evaluator} cannot be used:\n{told['problem']}"
            )

    @property
    def sandbox(self) -> Sandbox:
        """The layers around its evaluations, and those that are missing, once it has been started."""
        apart = not self.missing and self._walls
        found = {
            **dict.fromkeys((*NAMESPACES, "private root"), apart),
            "/proc": not self.unseen,
            "key filter": not self._keyrings,
            "limits": True,
        }
        return Sandbox(
            layers=[name for name, there in found.items() if there],
            missing=[name for name, there in found.items() if not there],
        )

    @property
    def running(self) -> bool:
        """Whether it has been started."""
        return self._process is not None

    def submit(self, program: str, key: int) -> None:
        """Begins an evaluation; `result` has what comes of it.

        Args:
            program: the program's text.
            key: what generators inside start from.
        """
        self.start()
        self._deadline = time.monotonic() + self._limits.seconds + SLACK
        self._heard.clear()
        self._send(program.encode("utf-8", "surrogatepass"), key)

    def fileno(self) -> int:
        """A descriptor that is readable once something has been said."""
        assert self._channel is not None, "the process has been started"
        return self._channel.fileno()

    def overdue(self) -> bool:
        """Whether the process itself has broken: it should have said something long ago."""
        return time.monotonic() > self._deadline

    def result(self) -> Evaluation:
        """The evaluation that was begun, once it has ended."""
        try:
            failure, detail, output, body = self._frame(self._deadline)
        except (TimeoutError, EOFError, OSError) as error:
            self.close()
            late = isinstance(error, TimeoutError)
            ending = "the evaluator's process " + ("hangs" if late else "died")
            return Evaluation(score=None, failure="timeout" if late else "crashed", detail=ending)
        printed = output.decode("utf-8", "replace")
        if failure:
            known: Failure = next((each for each in FAILURES if each.encode() == failure), "crashed")
            return Evaluation(score=None, failure=known, detail=detail.decode(), output=printed)
        return evaluation_of(body, printed)

    def evaluate(self, program: str, key: int = 0) -> Evaluation:
        """Waits for a program's evaluation."""
        self.submit(program, key)
        return self.result()

    def close(self) -> None:
        """Ends the process and all that runs in it; a further evaluation starts another."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        process, self._process = self._process, None
        if process is not None:
            if self.missing or not self._walls:
                try:
                    process.wait(5)  # It kills what it started, which nobody else can find.
                except subprocess.TimeoutExpired:
                    process.kill()
            else:
                process.kill()
            process.wait()

    def __enter__(self) -> EvaluatorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _inside(self) -> str:
        return f"/evaluator/{self._folder.name}"

    def _environment(self, path: list[str]) -> dict[str, str]:
        binaries = [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
        return {
            "PATH": os.pathsep.join(binaries),
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/tmp",
            "USER": "evaluator",
            "LC_ALL": "C.UTF-8",
            "ENABLE_ARTIFACTS": "true",
            BOUND: "1",
            **dict.fromkeys(THREADS, "1"),
        }

    def _readable(self, standard: list[str]) -> list[tuple[str, str]]:
        """(path here, path inside), outer folders first."""
        own = {*SYSTEM, *standard, sys.base_prefix, sys.prefix, str(STANDINS), *map(str, package_folders())}
        places = sorted({(path, path) for path in own}, key=lambda each: (each[0].count("/"), each))
        return [*places, (str(self._folder.path), self._inside)]

    def _send(self, body: bytes, key: int = 0) -> None:
        assert self._channel is not None, "the process has been started"
        try:
            self._channel.sendall(ASKED.pack(len(body), key) + body)
        except OSError:
            return  # It has died: whoever waits for its words hears so.

    def _frame(self, deadline: float) -> list[bytes]:
        """The process's next words: a failure, its detail, what was printed, a fork's reply."""
        *lengths, spent, self.own_cpu = TOLD.unpack(self._exactly(TOLD.size, deadline))
        if sum(lengths) > MOST_FRAME:
            raise EOFError
        parts = [self._exactly(length, deadline) for length in lengths]
        self.cpu += spent
        return parts

    def _exactly(self, count: int, deadline: float) -> bytes:
        assert self._channel is not None, "the process has been started"
        while len(self._heard) < count:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._channel], [], [], left)[0]:
                raise TimeoutError
            part = self._channel.recv(AT_ONCE)
            if not part:
                raise EOFError
            self._heard += part
        data = bytes(self._heard[:count])
        del self._heard[:count]
        return data
