"""The native module: one section a room."""

import os
from collections.abc import Sequence
from typing import Any

__version__: str

# --- sandbox
class SandboxedProcess:
    """A process that nobody trusts; dropping it kills everything it started. Not thread-safe."""

    @property
    def pid(self) -> int:
        """Process id in this process's namespace."""

    def send(self, body: bytes, seconds: float) -> None:
        """Writes one frame within `seconds`.

        Raises:
            TimeoutError: the child does not read.
            SandboxError: the child is gone.
        """

    def receive(self, most: int, seconds: float) -> bytes:
        """Reads one frame of at most `most` bytes within `seconds`.

        Raises:
            TimeoutError: no whole frame arrived in time.
            ValueError: the child announced a larger frame.
            SandboxError: the child is gone.
        """

    def stderr(self) -> str:
        """The newest output on stderr, at most 4 KiB."""

    def close(self) -> str:
        """Kills the whole process tree and says how the child ended."""

def spawn(
    program: str | os.PathLike[str],
    arguments: list[str],
    environment: list[tuple[str, str]],
    readable: Sequence[str | os.PathLike[str]],
    executable: Sequence[str | os.PathLike[str]],
    *,
    memory: int,
    cpu_seconds: int,
    open_files: int = 32,
    processes: int = 1,
    strict: bool = False,
) -> SandboxedProcess:
    """Starts a child under every layer that works here; it dies with the thread that called this.

    Args:
        program: absolute path of the executable.
        arguments: what follows the program's name.
        environment: the whole environment.
        readable: files and folders that may be read; missing ones are left out.
        executable: files and folders that may be read and executed, the dynamic loader included.
        memory: address space in bytes.
        cpu_seconds: processor time.
        open_files: open descriptors.
        processes: processes and threads; 1 forbids starting any.
        strict: refuse if a layer is missing.

    Raises:
        SafetyError: strict, and a layer is missing.
        SandboxError: a step of the setup failed.
    """

def probe() -> dict[str, Any]:
    """The layers in force: `namespaces`, `private_root`, `landlock_abi` (0: none), `seccomp`, and `missing`."""

# --- store
class RunStore:
    """A run's LMDB store: one process writes, any number read. Bodies and timings are the caller's bytes."""

    @staticmethod
    def create(path: str | os.PathLike[str], schema: int, map_size: int | None = None) -> RunStore:
        """Makes a new run in the folder `path` and opens it for writing.

        Raises:
            UsageError: the folder holds a run already.
            StoreBusyError: another process is making one there.
            StorageFullError: no space is left.
        """

    @staticmethod
    def open(
        path: str | os.PathLike[str], schema: int, *, write: bool = False, map_size: int | None = None
    ) -> RunStore:
        """Opens the run in the folder `path`.

        Args:
            path: the run's folder.
            schema: newest schema that the caller knows.
            write: take the writer's lock.
            map_size: most bytes the store may have, address space only; 16 GiB when None.

        Raises:
            UsageError: the folder holds no run.
            StoreBusyError: another process writes it; the message names its id.
            SchemaError: a newer version wrote it.
            StoreError: the file is torn or alien.
        """

    @staticmethod
    def is_run(path: str | os.PathLike[str]) -> bool:
        """Whether the folder looks like a run, without opening it."""

    def close(self) -> None:
        """Lets go of the lock and the file; whatever is called later raises `StoreError`."""

    def commit(
        self,
        entries: list[tuple[bytes, bytes]],
        puts: list[tuple[str, str, bytes | None]],
        blobs: list[bytes],
    ) -> str:
        """Writes (body, timing) entries, (table, key, value or None to delete) rows and blobs in one durable commit.

        Returns:
            the journal's head.
        """

    def entries(self, start: int, limit: int) -> list[tuple[int, str, bytes, bytes]]:
        """At most `limit` entries from `start` on, as (seq, hash, timing, body)."""

    def head(self) -> str:
        """The newest link of the chain in hexadecimal; 64 zeros while there is no entry."""

    def __len__(self) -> int: ...
    def verify(self) -> int:
        """Recomputes the whole chain; returns the number of entries, or raises `StoreError` naming the first broken."""

    def put_blob(self, data: bytes) -> str:
        """Stores bytes in a durable commit of their own; returns their BLAKE3 hash in hexadecimal."""

    def blob(self, hash: str) -> bytes:
        """The bytes of a hash, checked against it."""

    def get(self, table: str, key: str) -> bytes | None:
        """A table's value, or None."""

    def scan(
        self, table: str, prefix: str = "", *, limit: int | None = None, reverse: bool = False
    ) -> list[tuple[str, bytes]]:
        """A table's rows whose key starts with `prefix`, by key."""

    def set_state(self, state: bytes) -> None:
        """Says what the writer is doing: at most 8,164 bytes, not synced, works on a full disk."""

    def state(self) -> bytes | None:
        """What the writer said last, or None."""

    def writer_alive(self) -> bool:
        """Whether a process has the run open for writing now."""

class MemoryStore:
    """Lessons that outlive the runs; several processes may write, one at a time."""

    @staticmethod
    def open(
        path: str | os.PathLike[str], schema: int, *, create: bool = False, map_size: int | None = None
    ) -> MemoryStore | None:
        """Opens the memory in the folder `path`; None if there is none and it is not to be made."""

    def close(self) -> None:
        """Lets go of the file; whatever is called later raises `StoreError`."""

    def put(self, lessons: list[tuple[str, str, str, int, str, bytes]]) -> None:
        """Writes (id, skill, run, cycle, text, body) in one durable commit; a known id is replaced."""

    def forget(self, id: str) -> bool:
        """Forgets a lesson; False if there was none of this id."""

    def count(self) -> int:
        """Number of lessons."""

    def all(self, after: str | None, limit: int) -> list[bytes]:
        """Bodies of at most `limit` lessons whose id comes after `after`, by id."""

    def by_skill(self, skill: str, run: str | None, limit: int) -> list[bytes]:
        """Bodies of a skill's lessons: runs by name from last to first, in each the newest cycle first."""

    def search(self, text: str, skill: str | None, run: str | None, limit: int) -> list[bytes]:
        """Bodies of the lessons that share most words with `text`; of equals the shorter, then the smaller id."""
