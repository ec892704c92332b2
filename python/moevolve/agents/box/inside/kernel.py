"""System calls that Python has no functions for; standard library alone, for any interpreter from 3.9 on."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000

RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR, _PIDFD_OPEN = 428, 429, 442, 434
_PIVOT_ROOT, _CAPSET = (155, 126) if os.uname().machine == "x86_64" else (41, 91)
_AT_FDCWD, _AT_EMPTY, _AT_RECURSIVE = -100, 0x1000, 0x8000
_CLOEXEC = os.O_CLOEXEC

_PDEATHSIG, _DUMPABLE, _SECCOMP, _BOUNDING, _NO_NEW_PRIVS = 1, 4, 22, 24, 38
_LAST_CAPABILITY = 63
_NO_RANDOM_ADDRESSES = 0x0040000


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _system(number: int, *arguments: object) -> int:
    return int(_libc.syscall(ctypes.c_long(number), *arguments))


def unshare(flags: int) -> None:
    """Namespaces of this process's own; those of process ids are its children's."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "namespaces")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    parts = [None if part is None else part.encode() for part in (source, target, kind)]
    done = _libc.mount(parts[0], parts[1], parts[2], ctypes.c_ulong(flags), data.encode() or None)
    _checked(done, f"mount of {target}")


def detach(target: str) -> None:
    """Takes a mount away; whoever uses it keeps it."""
    _checked(_libc.umount2(target.encode(), 2), f"unmount of {target}")


def pivot(folder: str, old: str) -> None:
    """Makes `folder` the root, and shows the old root at `old`."""
    _checked(_system(_PIVOT_ROOT, folder.encode(), old.encode()), "private root")


def clone_of(path: str) -> int:
    """A descriptor of a copy of the mounts at `path` and below, attached nowhere: it crosses namespaces by itself."""
    flags = 1 | _CLOEXEC | _AT_RECURSIVE
    return _checked(
        _system(_OPEN_TREE, ctypes.c_int(_AT_FDCWD), path.encode(), ctypes.c_uint(flags)), f"copy of {path}"
    )


def attach(tree: int, target: str) -> None:
    """Puts what `clone_of` copied at `target`."""
    moved = _system(
        _MOVE_MOUNT, ctypes.c_int(tree), b"", ctypes.c_int(_AT_FDCWD), target.encode(), ctypes.c_uint(4)
    )
    _checked(moved, f"mount at {target}")


def seal(tree: int) -> None:
    """Makes a detached copy of mounts read-only, without devices and set-user-id programs."""
    attributes = struct.pack("QQQQ", RDONLY | NOSUID | NODEV, 0, 0, 0)
    flags = _AT_EMPTY | _AT_RECURSIVE
    done = _system(
        _MOUNT_SETATTR, ctypes.c_int(tree), b"", ctypes.c_uint(flags), attributes, ctypes.c_size_t(32)
    )
    _checked(done, "read-only mounts")


def die_with_parent() -> None:
    """Ends this process by SIGKILL when its parent ends."""
    _checked(_libc.prctl(_PDEATHSIG, ctypes.c_ulong(9), 0, 0, 0), "parent death signal")


def dumpable() -> None:
    """Lets this process write to its own files of /proc after its user has changed."""
    _checked(_libc.prctl(_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0), "dumpable")


def unreadable() -> None:
    """Hides this process's memory and descriptors from every other process of its user that has no privileges."""
    _checked(_libc.prctl(_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0), "not dumpable")


def first_to_go() -> None:
    """Lets this process and its children go first where this machine's memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:  # A /proc that cannot be written: the machine chooses for itself.
        return


def fixed_addresses() -> None:
    """The same addresses in whatever this process executes."""
    _libc.personality(ctypes.c_ulong(_NO_RANDOM_ADDRESSES))


def confine(program: bytes) -> None:
    """Gives up privileges for good and installs a filter of system calls, in this process and all that it starts."""
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_BOUNDING, ctypes.c_ulong(capability), 0, 0, 0)
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    _checked(_system(_CAPSET, header, none), "capabilities")
    _checked(_libc.prctl(_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "no new privileges")
    code = ctypes.create_string_buffer(program, len(program))
    held = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    _checked(_libc.prctl(_SECCOMP, ctypes.c_ulong(2), held, 0, 0), "filter of system calls")


def process_handle(process: int) -> int:
    """A descriptor of a process, which never comes to mean another one."""
    return _checked(_system(_PIDFD_OPEN, ctypes.c_int(process), ctypes.c_uint(0)), "process descriptor")


def raise_loopback() -> None:
    """Brings up this network namespace's one interface."""
    with socket.socket() as any_socket:
        request = struct.pack("16sH14x", b"lo", 0x1 | 0x40)
        fcntl.ioctl(any_socket, 0x8914, request)


def send(control: socket.socket, message: bytes, descriptors: Iterable[int] = ()) -> None:
    """One message with descriptors."""
    held = array.array("i", descriptors)
    control.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, held)] if held else [])


def receive(control: socket.socket, most: int = 1 << 16) -> tuple[bytes, list[int]]:
    """One message with its descriptors; empty at the other side's end."""
    data, extra, _, _ = control.recvmsg(most, socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC)
    held = array.array("i")
    for level, kind, blob in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            held.frombytes(blob[: len(blob) - len(blob) % held.itemsize])
    return data, list(held)
