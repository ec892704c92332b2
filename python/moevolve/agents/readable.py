"""The files that a sandboxed interpreter may read: itself, its shared libraries, and the standard library without installed
packages."""

from __future__ import annotations

import mmap
import struct
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

HIDDEN = ("site-packages", "dist-packages", "ensurepip", "idlelib", "test", "lib2to3/tests")
"""Folders of the standard library that hold what somebody installed, or nothing that a program needs."""

HIDDEN_MODULES = ("_ctypes", "_testcapi", "_testinternalcapi", "_xxsubinterpreters", "_xxinterpchannels")
"""Extension modules that lead around the interpreter: foreign functions, other interpreters, its own tests."""

LOADER_CACHE = "/etc/ld.so.cache"


class Readable(NamedTuple):
    """Paths for a sandbox."""

    interpreter: str
    readable: list[str]
    executable: list[str]
    hidden: list[str]


@cache
def interpreter_files() -> Readable:
    """The paths of this interpreter, in a virtual environment or outside."""
    interpreter = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix})).resolve()
    hidden = [library / name for name in HIDDEN]
    modules = list((library / "lib-dynload").glob("*.so"))
    closed = [path for path in modules if path.name.partition(".")[0] in HIDDEN_MODULES]
    loaders, libraries = shared_libraries([interpreter, *(path for path in modules if path not in closed)])
    return Readable(
        str(interpreter),
        [str(library), LOADER_CACHE, *map(str, libraries)],
        [str(interpreter), *map(str, loaders)],
        [str(path) for path in (*hidden, *closed) if path.exists()],
    )


def shared_libraries(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """(loaders, shared libraries) that the ELF `files` need, directly or through others, by the paths that the loader
    tries."""
    standard = [Path(folder) for folder in ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")]
    triplet = sysconfig.get_config_var("MULTIARCH")
    if triplet:
        standard[:0] = [Path("/lib") / triplet, Path("/usr/lib") / triplet]
    own = sysconfig.get_config_var("LIBDIR")
    loaders: dict[Path, None] = {}
    libraries: dict[Path, None] = {}
    waiting = list(files)
    known = set()
    while waiting:
        file = waiting.pop()
        loader, names, folders = _dynamic(file)
        if loader is not None:
            loaders[Path(loader)] = None
        origin = [Path(folder.replace("$ORIGIN", str(file.resolve().parent))) for folder in folders]
        for name in names:
            for folder in (*origin, *([Path(own)] if own else []), *standard):
                path = folder / name
                if path.is_file():
                    libraries[path] = None
                    if path.resolve() not in known:
                        known.add(path.resolve())
                        waiting.append(path)
    return list(loaders), list(libraries)


def _dynamic(path: Path) -> tuple[str | None, list[str], list[str]]:
    """(loader, needed libraries, folders to look in) of a 64-bit little-endian ELF file; nothing of any other file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:6] != b"\x7fELF\x02\x01":
            return None, [], []
        headers, size, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
        loader, dynamic, loaded = None, [], []
        for index in range(count):
            kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, headers + index * size)
            if kind == 1:
                loaded.append((address, offset, length))
            elif kind == 2:
                dynamic = list(_entries(data, offset, length))
            elif kind == 3:
                loader = data[offset : offset + length].rstrip(b"\0").decode()
        strings = next((value for tag, value in dynamic if tag == 5), None)
        if strings is None:
            return loader, [], []
        start = next(o + strings - a for a, o, length in loaded if a <= strings < a + length)

        def text(at: int) -> str:
            return data[start + at : data.find(b"\0", start + at)].decode()

        needed = [text(value) for tag, value in dynamic if tag == 1]
        folders = [text(value) for tag, value in dynamic if tag in (15, 29)]
        return loader, needed, [part for folder in folders for part in folder.split(":") if part]


def _entries(data: mmap.mmap, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """(tag, value) of a dynamic section up to its end."""
    for tag, value in struct.iter_unpack("<QQ", data[offset : offset + length]):
        if tag == 0:
            return
        yield tag, value
