"""What an attempt left: its workspace as a mount that outlives the box, or as the files that are on record."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping
from itertools import count

MOST_FILES = 4096
"""Of a workspace on record."""


class Workspace:
    """A folder that an attempt left. What it holds is a stranger's: no link in it is followed.

    Args:
        mount: descriptor of a read-only copy of its mount; this closes it. None where there is none.
        files: what it holds, where it is known from the record.
    """

    def __init__(self, mount: int | None, files: Mapping[str, bytes] | None = None) -> None:
        self.mount = mount
        self.files = files

    def read(self, name: str, most: int) -> bytes | None:
        """A file at its top, at most so many bytes and one more; None where there is no plain file of that name."""
        if self.files is not None:
            data = self.files.get(name)
            return None if data is None else data[: most + 1]
        assert self.mount is not None, "a workspace has a mount or files"
        return _plain(self.mount, name, most + 1)

    def packed(self, most: int) -> dict[str, bytes] | None:
        """All plain files by path; None where they are more than `most` bytes or 4,096 files."""
        if self.files is not None:
            return dict(self.files)
        assert self.mount is not None, "a workspace has a mount or files"
        found: dict[str, bytes] = {}
        top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.mount)
        try:
            for folder, _, names, descriptor in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                for name in names:
                    data = _plain(descriptor, name, most + 1)
                    if data is None:
                        continue
                    found[os.path.normpath(f"{folder}/{name}")] = data
                    most -= len(data)
                    if most < 0 or len(found) > MOST_FILES:
                        return None
        finally:
            os.close(top)
        return dict(sorted(found.items()))

    def close(self) -> None:
        """Lets go of the mount, and with it of what it holds."""
        if self.mount is not None:
            os.close(self.mount)
            self.mount = None


def _plain(folder: int, name: str, most: int) -> bytes | None:
    try:
        descriptor = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=folder
        )
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        data = b""
        while len(data) < most and (part := file.read(most - len(data))):
            data += part
        return data


_held: dict[str, Workspace] = {}
_numbers = count(1)
_lock = threading.Lock()


def hold(workspace: Workspace) -> str:
    """Keeps a workspace until somebody takes it; its name in this process."""
    with _lock:
        name = f"{next(_numbers)}"
        _held[name] = workspace
        return name


def take(name: str | None) -> Workspace | None:
    """A workspace that was held; it is the caller's to close. None where no workspace has this name."""
    with _lock:
        return None if name is None else _held.pop(name, None)
