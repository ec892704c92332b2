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
