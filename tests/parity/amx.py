"""A process without AMX: llama.cpp 0.3.36 crashes in its products on processors that have it."""

from __future__ import annotations

import ctypes
import errno
import struct

ARCH_PRCTL, REQUEST_FEATURE = 158, 0x1023
SET_NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000 | errno.EPERM


def refuse() -> None:
    """Lets no thread of this process use AMX from here on: refuses the kernel's grant, which libraries ask for first.

    Raises:
        OSError: the kernel takes no filter.
    """
    steps = [
        (LOAD, 0, 0, 0),  # The call's number.
        (EQUAL, 0, 3, ARCH_PRCTL),
        (LOAD, 0, 0, 16),  # The lower half of its first argument.
        (EQUAL, 0, 1, REQUEST_FEATURE),
        (RETURN, 0, 0, ERROR),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER, program, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "no filter of system calls")
