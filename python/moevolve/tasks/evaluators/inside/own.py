"""Folders of an evaluator's process where there are no namespaces: each evaluation has them as they were before it."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress

from moevolve.tasks.evaluators.inside.contracts import Unusable

MOST_FILES = 10_000
MOST_BYTES = 64 << 20
"""Of an evaluator's folder: as many as a run keeps of it."""


class OwnFolders:
    """A copy of the evaluator's folder, where it may write beside itself, and a folder for one candidate.

    Args:
        source: the evaluator's folder, of which hidden files are left out.

    Attributes:
        folder: the copy; the process works in it.
        home: the candidate's.

    Raises:
        Unusable: the folder is larger than a run keeps.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._files = [os.path.relpath(path, source) for path in _listed(source)]
        self._root = tempfile.mkdtemp(prefix="moevolve-evaluation-")
        self.folder = f"{self._root}/copy/{os.path.basename(source)}"
        self.home = f"{self._root}/candidate"
        self._state: list[tuple[str, int]] = []
        try:
            self._copy()
        except BaseException:
            self.leave()
            raise

    def clear(self) -> None:
        """Takes away what an evaluation left: its candidate, and the copy where anything of it was changed."""
        try:
            if os.path.islink(self._root):
                raise NotADirectoryError(self._root)
            os.chmod(self._root, 0o700)
            _remove(self.home)
            os.mkdir(self.home)
            if _state(self.folder) != self._state:
                _remove(self.folder)
                self._copy()
        except OSError:
            # The program took away what they stand in, or put something else there.
            os.chdir("/")
            _remove(self._root)
            os.mkdir(self._root, 0o700)
            os.mkdir(self.home)
            self._copy()

    def leave(self) -> None:
        """Takes all of it away."""
        os.chdir("/")
        _remove(self._root)

    def _copy(self) -> None:
        os.makedirs(self.folder)
        for name in self._files:
            target = f"{self.folder}/{name}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(f"{self._source}/{name}", target)
        self._state = _state(self.folder)
        os.chdir(self.folder)


def _listed(source: str) -> list[str]:
    """Paths of the files that a run would keep of a folder."""
    found: list[str] = []
    size = 0
    for folder, names, files in os.walk(source):
        names[:] = [name for name in names if not name.startswith(".") and name != "__pycache__"]
        paths = [f"{folder}/{name}" for name in files if not name.startswith(".")]
        found += [path for path in paths if os.path.isfile(path)]
        size += sum(os.stat(path).st_size for path in paths if os.path.isfile(path))
        if size > MOST_BYTES or len(found) > MOST_FILES:
            most = f"{MOST_BYTES >> 20} MiB or {MOST_FILES:,} files"
            raise Unusable("error", f"{source} holds more than {most}: a run keeps no copy of it")
    return found


def _state(folder: str) -> list[tuple[str, int]]:
    """When each file and folder was changed last, which nobody can set."""
    found = []
    for path, _, files in os.walk(folder):
        with suppress(OSError):
            for each in (path, *(f"{path}/{name}" for name in files)):
                found.append((each, os.lstat(each).st_ctime_ns))
    return sorted(found)


def _remove(path: str) -> None:
    """Takes away whatever is at a path, folders that a program has closed included; what cannot be is put aside."""
    with suppress(OSError):
        if os.path.islink(path) or os.path.isfile(path):
            os.unlink(path)
    waiting = [path] if os.path.isdir(path) and not os.path.islink(path) else []
    while waiting:
        with suppress(OSError):
            folder = waiting.pop()
            os.chmod(folder, 0o700)
            waiting += [each.path for each in os.scandir(folder) if each.is_dir(follow_symlinks=False)]
    with suppress(RecursionError):  # It was made too deep to be taken away.
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        os.rename(path, f"{path}-{os.lstat(path).st_ino}")
