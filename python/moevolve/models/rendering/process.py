"""The process that renders: started when a template is first needed, and again after one that it did not survive."""

from __future__ import annotations

import atexit
import importlib.util
import marshal
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from moevolve.errors import UsageError
from moevolve.models.rendering.worker import ASKED, FAILED, HEAD, SECONDS

MEMORY = 256 << 20
"""Bytes that a template may use."""


class Renderer:
    """One process for all templates of this one; a request waits for the one before it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, source: str, variables: dict[str, Any] | None) -> tuple[bytes, str]:
        """What the process answers to a request: a letter of `worker` and a text.

        Args:
            source: of the template.
            variables: plain values, None to compile alone.

        Raises:
            UsageError: a variable is no plain value, or no process can be started.
        """
        try:
            request = marshal.dumps((source, variables))
        except ValueError as error:
            raise UsageError(f"a chat template takes plain values alone: {error}") from error
        with self._lock:
            process = self._started()
            try:
                return self._answer(process, request)
            except (OSError, EOFError):
                self.close()
                return FAILED, _ending(process.returncode)
            except BaseException:
                # Whoever interrupts leaves half an answer behind.
                self.close()
                raise

    def _answer(self, process: subprocess.Popen[bytes], request: bytes) -> tuple[bytes, str]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(ASKED.pack(len(request)))
        process.stdin.write(request)
        process.stdin.flush()
        letter, length = HEAD.unpack(_exactly(process.stdout.read(HEAD.size), HEAD.size))
        text = _exactly(process.stdout.read(length), length)
        return letter, text.decode("utf-8", "surrogatepass")

    def _started(self) -> subprocess.Popen[bytes]:
        process = self._process
        # A forked copy of this process would read answers that are its parent's.
        if process is None or process.poll() is not None or self._owner != os.getpid():
            process = self._process = _start()
            self._owner = os.getpid()
        return process

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # What was not sent is lost with whom it was for.
                    pipe.close()


def _start() -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise UsageError("this Python does not know its own program, and chat templates run in another one")
    worker = Path(__file__).with_name("worker.py")
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-X", "utf8", worker],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # A key that ends this process ends what it waits for by itself.
        start_new_session=True,
    )
    assert process.stdin is not None
    told = marshal.dumps((_folders(), MEMORY))
    process.stdin.write(ASKED.pack(len(told)) + told)  # Sent with the first request.
    return process


def _folders() -> list[str]:
    """Where Jinja lies, and what it needs."""
    found = []
    for name in ("jinja2", "markupsafe"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append(str(Path(spec.origin).parent.parent))
    return list(dict.fromkeys(found))


def _exactly(read: bytes, length: int) -> bytes:
    if len(read) < length:
        raise EOFError
    return read


def _ending(code: int) -> str:
    if code == -signal.SIGPROF:
        return f"it takes more than {SECONDS} seconds of processor time"
    if code < 0:
        return f"its process was ended by signal {-code}"
    return f"its process ended with code {code}"


renderer = Renderer()
atexit.register(renderer.close)
