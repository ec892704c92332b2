"""What programs said, kept before anything reads it: whoever does the same work again hears the same words.

A program's words are a function of its start and of the replies that it had, as far as the sandbox can make them one. Where
they are not (a count of what fits into its processor time, a machine without the virtual clock), a run that is killed and
resumed would differ from its own journal. So each message is kept under a digest of all that came before it, and a process
runs only where no message is known.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path

from moevolve.agents.limits import Limits
from moevolve.agents.process import Process
from moevolve.agents.wire import Replies, Round, Start, decode_round, encode
from moevolve.config.schema import Isolation
from moevolve.errors import SandboxError

DIGEST = 16
"""Bytes of a place."""
HEAD = DIGEST + 4 + 8
"""Bytes before an entry's body: its place, its length, a checksum of the body."""

FAULTS: dict[bytes, type[Exception]] = {b"t": TimeoutError, b"m": ValueError, b"c": SandboxError}
"""What a process can come to instead of a message."""
MESSAGE = b"r"


class Transcripts:
    """Messages by place, in one file that only grows until it is cleared. Any thread may use it.

    Args:
        file: where they are kept; None keeps nothing, and every process runs.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._places: dict[bytes, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._descriptor = -1
        self._end = 0
        if file is not None:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._read()

    def find(self, place: bytes) -> bytes | None:
        """What was said at a place."""
        with self._lock:
            where = self._places.get(place)
            return None if where is None else os.pread(self._descriptor, where[1], where[0])

    def keep(self, place: bytes, said: bytes) -> bytes:
        """Keeps what was said; returns what is on file, which is the first that was said there."""
        if self._file is None:
            return said
        known = self.find(place)
        if known is not None:
            return known
        entry = place + len(said).to_bytes(4, "little") + _checksum(said) + said
        with self._lock:
            _write(self._descriptor, entry, self._end)
            self._places[place] = self._end + HEAD, len(said)
            self._end += len(entry)
        return said

    def clear(self) -> None:
        """Forgets everything: what it led to is on record."""
        if self._file is not None:
            with self._lock:
                os.ftruncate(self._descriptor, 0)
                self._places.clear()
                self._end = 0

    def close(self) -> None:
        """Lets go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()

    def _read(self) -> None:
        """Takes what is on file, up to the first entry that is not whole."""
        while True:
            head = os.pread(self._descriptor, HEAD, self._end)
            length = int.from_bytes(head[DIGEST : DIGEST + 4], "little")
            body = os.pread(self._descriptor, length, self._end + HEAD)
            if len(head) < HEAD or len(body) < length or _checksum(body) != head[DIGEST + 4 :]:
                return
            self._places[head[:DIGEST]] = self._end + HEAD, length
            self._end += HEAD + length


TAKEN = "the sandboxed process ended (killed by SIGKILL)"
"""What is said of a process that this machine took away, its memory spent for one; what it printed last stands behind that.
None can do that to itself: it may signal nobody, a refused call ends it by SIGSYS or an exception, one that has used up its
processor time is a `TimeoutError` whatever ended it, and one that closes its pipe and goes on is said to have done that."""


def taken(error: str) -> bool:
    """Whether the machine took the process that an error is about."""
    return error.startswith(TAKEN)


class Conversation:
    """A sandboxed process as far as it is heard for the first time, its transcript as far as it is not.

    Args:
        transcripts: what is known.
        start: the first message.
        limits: the process's.
        strict: refuse if a layer is missing.
        isolation: whether attempts share its memory.
        most: bytes of all its messages together; more are `malformed`, and not kept.
    """

    def __init__(
        self,
        transcripts: Transcripts,
        start: Start,
        limits: Limits,
        strict: bool,
        isolation: Isolation,
        most: int,
    ) -> None:
        self._transcripts = transcripts
        self._most = most
        self._said = 0
        self._process: Process | None = None
        self._make = partial(Process, start, limits, strict, isolation)
        self._place = _digest(encode(start), encode(limits), isolation.encode())
        self._told: list[bytes] = []
        """Replies that no process has had yet."""
        self._owes = True
        """Whether the process has still to say what the newest reply that it had led to."""

        self.patient = False
        """Whether there will be another try if the machine takes the process."""
        self.unable = False
        """Whether a process was wanted and could not be started."""

    def round(self) -> Round:
        """The next round; raises what `Process.round` raises, or raised when it was first heard."""
        said = self._transcripts.find(self._place)
        if said is None:
            if self._process is None:
                self.unable = True
                self._process = self._make()
                self.unable = False
            said = hear(self._process, self._say_on)
            if self.patient and said[:1] == b"c" and taken(said[1:].decode()):
                # Not for the record: another process with the same start goes on from here.
                raise SandboxError(said[1:].decode())
            if self._said + len(said) > self._most:
                said = f"mall its messages come to more than {self._most} bytes".encode()
            said = self._transcripts.keep(self._place, said)
        self._said += len(said)
        kind, body = said[:1], said[1:]
        if kind != MESSAGE:
            raise FAULTS[kind](body.decode())
        return decode_round(body)

    def reply(self, replies: Replies) -> bytes:
        """Answers a round; returns the message."""
        body = encode(replies)
        self._place = _digest(self._place, body)
        self._told.append(body)
        return body

    def close(self) -> None:
        """Kills the process, if there is one."""
        if self._process is not None:
            self._process.close()

    def another(self) -> Process:
        """A process with the same start."""
        return self._make()

    def kept(self, name: str, found: Callable[[], bytes]) -> bytes:
        """What was found about this conversation under a name; is found now if it is not on file."""
        place = _digest(self._place, name.encode())
        said = self._transcripts.find(place)
        return self._transcripts.keep(place, found()) if said is None else said

    def _say_on(self, process: Process) -> bytes:
        """The process's next message, once it has had all replies."""
        for body in self._told:
            if self._owes:
                process.receive()
            process.send(body)
            self._owes = True
        self._told.clear()
        said = process.receive()
        self._owes = False
        return said


def hear(process: Process, message: Callable[[Process], bytes]) -> bytes:
    """A process's message with its kind before it, or what the process comes to instead."""
    try:
        return MESSAGE + message(process)
    except TimeoutError as error:
        return b"t" + str(error).encode()
    except ValueError as error:
        return b"m" + str(error).encode()
    except SandboxError as error:
        return b"c" + str(error).encode()


def _digest(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=DIGEST)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _checksum(body: bytes) -> bytes:
    return blake2b(body, digest_size=8).digest()


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
