"""Walls around an evaluator's process, which foreign code needs threads, processes and files in: namespaces and a root of
its own, read-only but for temporary files, no network, no capabilities. System calls by hand, since the standard library
has none of them before Python 3.12."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_libc = ctypes.CDLL(None, use_errno=True)
_capset = _libc.capset
"""Looked up here, and not in each fork."""

NEW_NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000
"""User, mount, process, network, IPC and host name."""
READ_ONLY, NO_SUID, NO_DEVICES, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
DETACH = 2
TEMPORARY = ("/tmp", "/dev/shm")
PAGE, LEAST_FILES = 4096, 4096
"""There may be as many files as pages of what may be written, and so many at least."""
CHANGED, WORK = "/layer/changed", "/layer/work"
"""What is written beside the evaluator."""
INNER_ID = 1000
_MOUNT_SETATTR = 442
_NO_NEW_PRIVILEGES, _DEATH_SIGNAL, _DUMPABLE, _SUBREAPER = 38, 1, 4, 36
_AT_RECURSIVE = 0x8000
DEVICES = ("null", "zero", "full", "random", "urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")
"""What interpreters and compilers of the machine need; the rest of it does not exist inside."""


class WallError(OSError):
    """A step that the kernel refused."""


def _check(step: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise WallError(number, f"{step}: {os.strerror(number)}")


_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def _prctl(option: int, value: int) -> None:
    _libc.prctl(option, value, 0, 0, 0)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(f"mount {target}", _libc.mount(*arguments))


def apart() -> None:
    """Puts this process into namespaces of its own, and its children into a process namespace.

    Raises:
        WallError: the machine offers none.
    """
    user, group = os.geteuid(), os.getegid()
    _check("unshare", _libc.unshare(NEW_NAMESPACES))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{INNER_ID} {user} 1"),
        ("gid_map", f"{INNER_ID} {group} 1"),
    ):
        _write(f"/proc/self/{name}", text)


def refused(readable: Sequence[tuple[str, str]]) -> str:
    """What the machine refuses of `apart` and `private_root`, tried by a process that ends with it; empty where nothing is.

    Some machines allow namespaces and nothing inside: whoever finds out in one can neither go on nor back.
    """
    heard, said = os.pipe()
    child = os.fork()
    if not child:
        answer = b""
        try:
            apart()
            private_root(readable)
            answer = b"\0"
        except OSError as error:
            answer = str(error).encode("utf-8", "replace")
        finally:
            os.write(said, answer)
            os._exit(0)
    os.close(said)
    with open(heard, "rb") as file:
        answer = file.read()
    os.waitpid(child, 0)
    return "" if answer == b"\0" else answer.decode() or "whoever tried them died"


def unseen() -> str:
    """Why no processes are to be seen in this namespace; empty where they are."""
    return "" if os.path.isdir("/proc/self") else "the machine refuses a /proc"


def die_with_parent() -> None:
    """Lets the kernel kill this process when the thread that started it ends."""
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)


def adopt() -> None:
    """Makes this process the parent of descendants whose own is gone."""
    _prctl(_SUBREAPER, 1)


def closed_to_others() -> None:
    """Keeps processes of the same user from reading this one's memory, and those that it starts from further rights."""
    _prctl(_DUMPABLE, 0)
    _prctl(_NO_NEW_PRIVILEGES, 1)


def private_root(readable: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Replaces the root: `readable` paths at their new places, and a few devices.

    Args:
        readable: (path of the host, path inside), outer ones first; missing ones are left out.

    Returns:
        (where it is, where it belongs) of those that belong into a folder of temporary files.

    Raises:
        WallError: a step that the kernel refused.
    """
    new = "/tmp"  # Any folder does: only this namespace sees what is mounted there.
    places: list[tuple[str, str]] = []
    for source, target in readable:
        if not os.path.lexists(source) or any(
            source != outer and _within(target, inner) and _within(source, outer) for outer, inner in places
        ):
            continue
        places.append((source, target))
    handles = [(os.open(source, os.O_PATH | os.O_CLOEXEC), source, target) for source, target in places]
    devices = [(os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC), name) for name in DEVICES]
    _mount("none", "/", "", RECURSIVE | PRIVATE)
    _mount("tmpfs", new, "tmpfs", NO_SUID | NO_DEVICES, "size=1m,mode=755")
    kept: list[tuple[str, str]] = []
    for handle, source, target in handles:
        if any(_within(target, folder) for folder in TEMPORARY):
            kept.append((f"/kept/{len(kept)}", target))
            target = kept[-1][0]
        if os.path.islink(source) and source == target:
            os.makedirs(os.path.dirname(new + target), exist_ok=True)
            os.symlink(os.readlink(source), new + target)
            continue
        _bind(handle, new + target)
        _read_only(new + target)
    for handle, name in devices:
        _bind(handle, f"{new}/dev/{name}")
        # Devices are written to all the same; their modes and owners are the machine's.
        _read_only(f"{new}/dev/{name}", NO_SUID)
    for link, where in (
        ("fd", "self/fd"),
        ("stdin", "self/fd/0"),
        ("stdout", "self/fd/1"),
        ("stderr", "self/fd/2"),
    ):
        os.symlink(f"/proc/{where}", f"{new}/dev/{link}")
    for folder in ("tmp", "dev/shm", "proc", "old", "layer"):
        os.makedirs(f"{new}/{folder}", exist_ok=True)
    # A container that hides parts of /proc allows no whole one: then there is none.
    with suppress(WallError):
        _mount("proc", f"{new}/proc", "proc", NO_SUID | NO_DEVICES)
    os.makedirs(f"{new}/etc", exist_ok=True)
    _write(f"{new}/etc/passwd", f"evaluator:x:{INNER_ID}:{INNER_ID}::/tmp:/bin/sh\n")
    _write(f"{new}/etc/group", f"evaluator:x:{INNER_ID}:\n")
    _write(f"{new}/etc/hosts", "127.0.0.1 localhost\n")
    os.chdir(new)
    _check("pivot_root", _libc.pivot_root(b".", b"old"))
    _check("umount", _libc.umount2(b"/old", DETACH))
    os.rmdir("/old")
    _mount("none", "/", "", REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEVICES)
    for handle in [each[0] for each in handles] + [each[0] for each in devices]:
        os.close(handle)
    return kept


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _bind(handle: int, target: str) -> None:
    _bind_path(f"/proc/self/fd/{handle}", target)


def _bind_path(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _write(target, "")
    _mount(source, target, "", BIND | RECURSIVE)


def _read_only(target: str, more: int = NO_SUID | NO_DEVICES) -> None:
    attributes = (ctypes.c_uint64 * 4)(READ_ONLY | more, 0, 0, 0)
    at, flags, size = ctypes.c_long(-100), ctypes.c_ulong(_AT_RECURSIVE), ctypes.c_ulong(32)
    if _libc.syscall(ctypes.c_long(_MOUNT_SETATTR), at, target.encode(), flags, attributes, size) < 0:
        _mount("none", target, "", REMOUNT | BIND | READ_ONLY | more)


class Scratch:
    """Folders that an evaluation may write to, empty or as they were before each one.

    Args:
        size: bytes of all that is written.
        folder: a read-only folder that looks writable, where the kernel can: what is written lies apart.
        kept: what belongs into them, as `private_root` returned it.
    """

    def __init__(self, size: int, folder: str, kept: Sequence[tuple[str, str]]) -> None:
        # An empty file takes the kernel's memory as well.
        self._room = f"size={size},nr_inodes={max(LEAST_FILES, size // PAGE)}"
        self._folder = folder
        self._kept = kept
        self._layered = False
        self._empty: dict[str, list[str]] = {}
        for each in TEMPORARY:
            self._mount(each)
        self._layer()

    def clear(self, home: str, usual: str) -> None:
        """Takes away what an evaluation left; costs little where that is the `usual` file, alone in its `home`."""
        # Whatever else is there keeps the folder, and the list below tells.
        with suppress(OSError):
            os.unlink(usual)
            os.rmdir(home)
        for each in TEMPORARY:
            if not self._untouched(each, 0o1777) or _names(each) != self._empty[each]:
                _check("umount", _libc.umount2(each.encode(), DETACH))
                self._mount(each)
        if self._layered and (not self._untouched(CHANGED, 0o755) or _names(CHANGED)):
            os.chdir("/")
            _check("umount", _libc.umount2(self._folder.encode(), DETACH))
            _check("umount", _libc.umount2(b"/layer", DETACH))
            self._layer()

    def _untouched(self, folder: str, mode: int) -> bool:
        """Whether a folder itself is as it was made; its times, which anybody may set, are made anew."""
        os.utime(folder)
        return stat.S_IMODE(os.stat(folder).st_mode) == mode and not _attributes(folder)

    def _mount(self, folder: str) -> None:
        _mount("tmpfs", folder, "tmpfs", NO_SUID | NO_DEVICES, f"{self._room},mode=1777")
        for source, target in self._kept:
            if _within(target, folder):
                _bind_path(source, target)
                _read_only(target)
        self._empty[folder] = _names(folder)

    def _layer(self) -> None:
        self._layered = False
        _mount("tmpfs", "/layer", "tmpfs", NO_SUID | NO_DEVICES, f"{self._room},mode=755")
        for folder in (CHANGED, WORK):
            os.mkdir(folder)
            os.chmod(folder, 0o755)  # Whatever the umask says.
        os.chdir(self._folder)  # Its name may hold what ends an option.
        layers = f"lowerdir=.,upperdir={CHANGED},workdir={WORK},userxattr"
        with suppress(WallError):  # Else the folder stays read-only.
            _mount("overlay", self._folder, "overlay", NO_SUID | NO_DEVICES, layers)
            self._layered = True
        os.chdir(self._folder)


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder))


def _attributes(path: str) -> list[str]:
    """Names of a folder's extended attributes that a program may have set."""
    try:
        return [name for name in os.listxattr(path) if not name.startswith("user.overlay.")]
    except OSError:
        return []  # There are none here.


class _SharedMemory(ctypes.Structure):
    """`struct shm_info`."""

    _fields_ = (
        ("used", ctypes.c_int),
        ("total", ctypes.c_ulong),
        ("resident", ctypes.c_ulong),
        ("swapped", ctypes.c_ulong),
        ("attempts", ctypes.c_ulong),
        ("successes", ctypes.c_ulong),
    )


_shared = _SharedMemory()
_told = (ctypes.c_int * 64)()
"""Takes whatever the kernel says of semaphores and queues, or of one object."""
_REMOVE = 0
_SEGMENTS, _SEGMENT, _SETS, _SET, _QUEUES, _QUEUE = 14, 13, 19, 18, 12, 11
_SETS_THERE, _QUEUES_THERE = 7, 0
"""Where `struct seminfo` and `struct msginfo` say how many there are."""


def shared_bytes() -> int:
    """Memory of this namespace's System V segments, which outlives whoever made it."""
    _libc.shmctl(0, _SEGMENTS, ctypes.byref(_shared))
    return int(_shared.total) * resource.getpagesize() if _shared.used else 0


def forget_shared() -> None:
    """Removes System V segments, semaphores and queues: they belong to no process, so that none of them ends with one."""
    last = _libc.shmctl(0, _SEGMENTS, ctypes.byref(_shared))
    for place in range(last + 1 if _shared.used else 0):
        _libc.shmctl(_libc.shmctl(place, _SEGMENT, _told), _REMOVE, None)
    last = _libc.semctl(0, 0, _SETS, _told)
    for place in range(last + 1 if _told[_SETS_THERE] else 0):
        _libc.semctl(_libc.semctl(place, 0, _SET, _told), 0, _REMOVE)
    last = _libc.msgctl(0, _QUEUES, _told)
    for place in range(last + 1 if _told[_QUEUES_THERE] else 0):
        _libc.msgctl(_libc.msgctl(place, _QUEUE, _told), _REMOVE, None)


def few_processes(most: int) -> None:
    """Bounds the process ids of this namespace and forbids more user namespaces, where the kernel can."""
    for path, value in (("kernel/pid_max", max(most, 400)), ("user/max_user_namespaces", 0)):
        with suppress(OSError):  # Older kernels have one bound for the whole machine: the watch remains.
            _write(f"/proc/sys/{path}", str(value))


_VERSION_3 = (ctypes.c_uint32 * 2)(0x20080522, 0)
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


def bounds(limits: dict[int, int]) -> list[tuple[int, tuple[int, int]]]:
    """(kind, soft and hard limit) of this process's children, none above what it may have itself."""
    found = []
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        found.append((kind, (bound, bound)))
    return found


def ordinary(limits: Sequence[tuple[int, tuple[int, int]]]) -> None:
    """Gives up every capability and sets limits: from here on this process is nobody's superior."""
    _check("capset", _capset(_VERSION_3, _NO_CAPABILITIES))
    _prctl(_DUMPABLE, 1)
    for kind, bound in limits:
        resource.setrlimit(kind, bound)
