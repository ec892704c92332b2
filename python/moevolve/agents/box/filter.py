"""The system-call filter of a box, for programs that nobody wrote for a sandbox: with threads, processes and sockets.

Allowed is every call that this list knows of but those that lead beyond the box: mounts, namespaces, other processes'
memory, keys, the kernel's own programs, clocks and modules. A younger call does not exist, another ABI is death, and of
address families there are those that a network namespace confines (virtual machines' sockets are not).
"""

from __future__ import annotations

import os
import struct
from functools import cache

from moevolve.errors import SafetyError

MACHINE = "x86_64"
YOUNGEST = 460
"""The newest call that this list knows of."""
CLOSED = {
    "acct": 163, "add_key": 248, "adjtimex": 159, "bpf": 321, "chroot": 161, "clock_adjtime": 305, "clock_settime": 227,
    "delete_module": 176, "fanotify_init": 300, "finit_module": 313, "fsconfig": 431, "fsmount": 432, "fsopen": 430,
    "fspick": 433, "init_module": 175, "io_uring_enter": 426, "io_uring_register": 427, "io_uring_setup": 425,
    "ioperm": 173, "iopl": 172, "kcmp": 312, "kexec_file_load": 320, "kexec_load": 246, "keyctl": 250,
    "lookup_dcookie": 212, "migrate_pages": 256, "modify_ldt": 154, "mount": 165, "mount_setattr": 442, "move_mount": 429,
    "move_pages": 279, "name_to_handle_at": 303, "nfsservctl": 180, "open_by_handle_at": 304, "open_tree": 428,
    "perf_event_open": 298, "pidfd_getfd": 438, "pivot_root": 155, "process_madvise": 440, "process_vm_readv": 310,
    "process_vm_writev": 311, "ptrace": 101, "quotactl": 179, "quotactl_fd": 443, "reboot": 169, "request_key": 249,
    "seccomp": 317, "setdomainname": 171, "sethostname": 170, "setns": 308, "settimeofday": 164, "swapoff": 168,
    "swapon": 167, "sysctl": 156, "sysfs": 139, "syslog": 103, "umount2": 166, "unshare": 272, "uselib": 134,
    "userfaultfd": 323, "ustat": 136, "vhangup": 153,
}  # fmt: skip
"""Refused whatever the arguments are, by number on x86-64."""
FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK."""
NAMESPACES = 0x7E020000
"""Flags of `clone` that open a namespace, all of them; time has none."""
TERMINAL = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX, which write into a terminal's input."""

_CLONE, _CLONE3, _SOCKET, _SOCKETPAIR, _IOCTL, _X32 = 56, 435, 41, 53, 16, 0x40000000
_ARCHITECTURE = 0xC000003E
_LOAD, _EQUAL, _AT_LEAST, _ABOVE, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
_ALLOW, _DEATH, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97

Instruction = tuple[int, int, int, int]
"""Code, jumps where true and where false, value: `struct sock_filter`."""


@cache
def box_filter() -> bytes:
    """The filter as the kernel takes it: `struct sock_filter`s in a row.

    Raises:
        SafetyError: this machine's system calls have other numbers.
    """
    if os.uname().machine != MACHINE:
        raise SafetyError(
            f"boxes have a filter of system calls for {MACHINE}, and this machine is {os.uname().machine}"
        )
    refuse, missing = _answer(_ERROR | _EPERM), _answer(_ERROR | _ENOSYS)
    program = [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURE), _answer(_DEATH),
        (_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, _X32), _answer(_DEATH),
        (_ABOVE, 0, 1, YOUNGEST), missing,
        # Without it the C library falls back to the older one, whose flags can be seen.
        (_EQUAL, 0, 1, _CLONE3), missing,
    ]  # fmt: skip
    for number in sorted(CLOSED.values()):
        program += [(_EQUAL, 0, 1, number), refuse]
    families = _among(16, FAMILIES, _answer(_ALLOW), _answer(_ERROR | _EAFNOSUPPORT))
    bodies = {
        _CLONE: [(_LOAD, 0, 0, 16), (_BITS, 0, 1, NAMESPACES), refuse, _answer(_ALLOW)],
        _SOCKET: families,
        _SOCKETPAIR: families,
        _IOCTL: _among(24, TERMINAL, refuse, _answer(_ALLOW)),
    }
    for number, body in bodies.items():
        program += [(_EQUAL, 0, len(body), number), *body]
    program.append(_answer(_ALLOW))
    return b"".join(struct.pack("HBBI", *each) for each in program)


def _answer(value: int) -> Instruction:
    return _RETURN, 0, 0, value


def _among(offset: int, values: tuple[int, ...], found: Instruction, other: Instruction) -> list[Instruction]:
    """One answer where the argument at an offset is one of the values, another where it is not."""
    tests = [each for value in values for each in ((_EQUAL, 0, 1, value), found)]
    return [(_LOAD, 0, 0, offset), *tests, other]
