"""A nursery, seen from the host: one process of an interpreter, from which boxes are made.

The child makes the listening socket of its own network and hands the descriptor over, so that nothing relays between
the agent and the gateway; it hands over its workspace as a mount, which outlives the box.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import marshal
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from moevolve import _native
from moevolve.agents.box.filter import box_filter
from moevolve.agents.box.inside import kernel
from moevolve.agents.box.interpreter import Interpreter
from moevolve.errors import SafetyError, SandboxError

NEEDED = (
    "user namespace",
    "mount namespace",
    "pid namespace",
    "network namespace",
    "private root",
    "seccomp",
)
"""Layers without which nobody's agent runs."""
START = 120.0
"""Seconds that the imports of a nursery may take."""
PATIENCE = 60.0
"""Seconds that a box may take to be made, on a machine that is busy."""
NOBODY = 65534
INNER = 1000
BOOT = """
import ctypes, os, sys
if "-" not in sys.argv[2:]:
    ctypes.CDLL(None).personality(ctypes.c_ulong(0x0040000))
    os.execv(sys.executable, [sys.executable, "-s", "-B", "-c", sys.orig_argv[-3], *sys.argv[1:], "-"])
sys.path.insert(0, os.fsdecode(os.path.dirname(sys.argv[1])))
from inside.nursery import main
main(int(sys.argv[2]))
"""
"""Without random addresses, which an image gets when it is executed; then the nursery."""


class Spec(msgspec.Struct, frozen=True):
    """What a nursery is: nurseries of one spec are the same."""

    interpreter: Interpreter
    imports: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    """Further places that its boxes see."""
    path: tuple[str, ...] = ()
    """Folders to import from before the interpreter's own."""
    prepare: str = ""
    """`module:function` that is called once with `argument`; its boxes have what it returned."""
    argument: bytes = b""
    hidden: tuple[str, ...] = ()
    """Files that show as empty ones, wherever they would show: what a suite's tasks are answered by."""


class Made(msgspec.Struct, frozen=True):
    """A box that runs: descriptors that belong to whoever asked for it."""

    process: int
    """Handle of its process 1."""
    workspace: int
    listener: socket.socket | None


def close(nurseries: Iterable[Nursery]) -> None:
    """Ends nurseries, from whatever thread: for those whose owner is gone."""
    for nursery in nurseries:
        loop().call_soon_threadsafe(nursery.close)


@cache
def loop() -> asyncio.AbstractEventLoop:
    """The event loop of all boxes, in a thread that lives as long as this process: a nursery ends with its parent thread."""
    made = asyncio.new_event_loop()
    threading.Thread(target=made.run_forever, name="moevolve: boxes", daemon=True).start()
    return made


def require_layers() -> None:
    """Sees that this machine can make boxes.

    Raises:
        SafetyError: it cannot; names the layers that are missing. Nothing runs without them.
    """
    missing = [layer for layer in NEEDED if layer in _native.probe()["missing"]]
    if missing:
        raise SafetyError(
            f"agents of the kinds `command` and `class` run in boxes, and this machine does not offer what a box needs: "
            f"{', '.join(missing)}. Nothing was run; `moevolve doctor` says more"
        )


class Nursery:
    """One nursery process. Its methods belong to `loop`.

    Args:
        spec: what it is.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._waiting: dict[int, asyncio.Future[Made]] = {}
        self._ready: asyncio.Future[None] | None = None
        self._number = 0

    async def start(self) -> None:
        """Starts the process, unless it runs.

        Raises:
            SandboxError: it cannot be started; says what it said.
        """
        if self._ready is None:
            require_layers()
            self._ready = asyncio.get_running_loop().create_future()
            try:
                self._spawn()
            except OSError as error:
                self._ready.set_exception(
                    SandboxError(f"{self._spec.interpreter.program} cannot be started: {error}")
                )
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START)
        except TimeoutError:
            self.close()
            raise SandboxError(
                f"{self._what} took more than {START:g} s to start in a box: what it imports does not end"
            ) from None

    async def make(self, job: dict[str, Any], given: Sequence[int]) -> Made:
        """A box that runs a job.

        Args:
            job: see `inside.attempt`.
            given: descriptors of its output, errors, answer, status, and of a workspace to show.

        Raises:
            SandboxError: it cannot be made.
        """
        await self.start()
        asked = self._process
        try:
            return await self._make(job, given)
        except SandboxError:
            # The machine took the nursery: another one makes the box. Whoever failed beside this one may have started it.
            if self._process is asked:
                if self._control is not None and asked is not None and asked.poll() is None:
                    raise
                self.close()
            return await self._make(job, given)

    async def _make(self, job: dict[str, Any], given: Sequence[int]) -> Made:
        await self.start()
        if self._control is None:  # It was heard to be gone in the moment in which it was seen to run.
            raise SandboxError("the nursery of boxes has ended")
        self._number += 1
        number = self._number
        future: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        held = _file({**job, "id": number})
        try:
            while True:
                try:
                    kernel.send(self._control, b"job", [held, *given])
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.001)
            return await asyncio.wait_for(future, PATIENCE)
        except (OSError, TimeoutError) as error:
            raise SandboxError(f"a box cannot be made: {error or 'it took too long'}") from error
        finally:
            os.close(held)
            self._waiting.pop(number, None)

    def close(self) -> None:
        """Ends the process and all its boxes."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._control is not None:
            self._control.close()
            self._control = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(SandboxError("the nursery of boxes has ended"))
        if self._ready is not None and self._ready.done() and self._ready.exception() is None:
            self._ready = None  # It ran: the next box starts another.

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = self._spec.interpreter.program
        folder = str(Path(kernel.__file__).resolve().parent)
        with theirs:
            self._process = subprocess.Popen(
                [program, "-s", "-B", "-c", BOOT, folder, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
                cwd="/",
                start_new_session=True,
            )
        self._control = ours
        spec = _file(
            {
                "places": [*self._spec.interpreter.places, *self._spec.readable],
                "path": [*self._spec.path, *self._spec.interpreter.path],
                "import": list(self._spec.imports),
                "environment": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"},
                "prepare": self._spec.prepare,
                "argument": self._spec.argument,
                "hidden": sorted({str(Path(path).resolve()) for path in self._spec.hidden}),
                "users": _users(),
                "filter": box_filter(),
            }
        )
        try:
            kernel.send(ours, b"spec", [spec])
        finally:
            os.close(spec)
        ours.setblocking(False)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)

    def _hear(self) -> None:
        """Takes what the nursery and its boxes say."""
        while self._control is not None:
            try:
                data, held = kernel.receive(self._control)
            except BlockingIOError:
                return
            except OSError:
                data, held = b"", []
            if not data:
                self._gone("it ended without a word")
                return
            message = json.loads(data)
            if "user" in message:
                self._map(message["user"])
            elif "ready" in message:
                self._settle(None)
            elif "id" not in message:
                self._gone(f"{message['failed']}\n{message.get('trace', '')}".strip())
                return
            else:
                self._place(message, held)

    def _place(self, message: dict[str, Any], held: list[int]) -> None:
        future = self._waiting.get(message["id"])
        if future is None or future.done():
            if held:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(held[0], signal.SIGKILL)
            for descriptor in held:
                os.close(descriptor)
        elif "failed" in message:
            future.set_exception(
                SandboxError(f"a box cannot be made: {message['failed']}\n{message.get('trace', '')}")
            )
        else:
            listener = socket.socket(fileno=held[2]) if len(held) > 2 else None
            future.set_result(Made(held[0], held[1], listener))

    def _map(self, process: int) -> None:
        """Gives the nursery its users: privileges are an affair of the host's, who writes the map."""
        assert self._control is not None, "somebody has asked"
        users = _users()
        try:
            for kind, outer in (("uid", os.geteuid()), ("gid", os.getegid())):
                lines = [f"{inner} {NOBODY if inner and 0 in users else outer} 1" for inner in users]
                if kind == "gid" and 0 not in users:
                    Path(f"/proc/{process}/setgroups").write_text("deny")
                Path(f"/proc/{process}/{kind}_map").write_text("\n".join(lines) + "\n")
        except OSError as error:
            self._gone(f"user namespaces cannot be mapped: {error}")
            return
        kernel.send(self._control, b"mapped")

    def _settle(self, failure: str | None) -> None:
        assert self._ready is not None, "it was started"
        if self._ready.done():
            return
        if failure is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(SandboxError(failure))

    def _gone(self, why: str) -> None:
        self._settle(f"{self._what} does not start in a box: {why}")
        self.close()

    @property
    def _what(self) -> str:
        """The interpreter with what it imports."""
        imports = ", ".join(self._spec.imports) or self._spec.prepare.partition(":")[0]
        return f"the interpreter {self._spec.interpreter.program}{f' with {imports}' if imports else ''}"


def _users() -> list[int]:
    """Who there is inside: where root runs this, its nursery is root of its namespaces and its boxes are not."""
    return [0, INNER] if os.geteuid() == 0 else [INNER]


def _file(value: dict[str, Any]) -> int:
    """A descriptor of a value, for an interpreter of another version."""
    held = os.memfd_create("moevolve", os.MFD_CLOEXEC)
    with open(held, "wb", closefd=False) as file:
        file.write(marshal.dumps(value, 2))
    return held
