"""The root that all boxes of one nursery share, read-only: the interpreter, the system's programs, and what is granted."""

from __future__ import annotations

import os

from inside import kernel

STAGE = "/tmp"
"""Where the root is put together; a folder that every system has."""
EMPTY = ("proc", "dev", "tmp", "run", "box", "box/work", "box/agent", "box/graded", "box/space")
DEVICES = ("null", "zero", "full", "random", "urandom")
OWN = ("/tmp/", "/dev/shm/")
"""Where every box has folders of its own."""
LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
PASSWD = "root:x:0:0::/:/usr/sbin/nologin\nagent:x:1000:1000::/box/work:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
GROUP = "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


def build(places: list[str], hidden: list[str]) -> None:
    """Makes the root of a namespace of mounts that is this process's own.

    Args:
        places: absolute paths of the host that show at the same place; what does not exist is left out.
        hidden: absolute paths of files that show as empty ones where they would show at all; no links.
    """
    kernel.mount("none", "/", None, kernel.RECURSIVE | kernel.PRIVATE)
    trees = [(place, os.path.isdir(place), kernel.clone_of(place)) for place in _tops(places)]
    devices = [(name, kernel.clone_of(f"/dev/{name}")) for name in DEVICES]
    processes = kernel.clone_of("/proc")
    links = [(name, os.readlink(f"/{name}")) for name in LINKS if os.path.islink(f"/{name}")]
    kernel.mount("none", STAGE, "tmpfs", kernel.NOSUID | kernel.NODEV, "size=4m,mode=755")
    os.chdir(STAGE)
    for name in EMPTY:
        os.mkdir(name, 0o755)
    for name, text in links:
        os.symlink(text, name)
    for place, is_folder, tree in trees:
        kernel.seal(tree)
        target = "." + place
        if is_folder:
            os.makedirs(target, exist_ok=True)
        else:
            _touch(target)
        kernel.attach(tree, target)
        os.close(tree)
    _touch("box/empty")
    for path in hidden:
        if os.path.isfile("." + path):
            tree = kernel.clone_of("box/empty")
            kernel.seal(tree)
            kernel.attach(tree, "." + path)
            os.close(tree)
    for name, tree in devices:
        _touch(f"dev/{name}")
        kernel.attach(tree, f"dev/{name}")
        os.close(tree)
    for name, text in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(text, f"dev/{name}")
    os.makedirs("dev/shm", exist_ok=True)
    kernel.attach(processes, "proc")
    for name, text in (("passwd", PASSWD), ("group", GROUP), ("hosts", HOSTS)):
        if not os.path.exists(f"etc/{name}"):
            _touch(f"etc/{name}", text)
    os.mkdir("old")
    kernel.pivot(".", "old")
    os.chdir("/")
    kernel.detach("/old")
    os.rmdir("/old")
    # Some libraries write when they are imported, to the home that a nursery has.
    kernel.mount("none", "/run", "tmpfs", kernel.NOSUID | kernel.NODEV, "size=16m,mode=700")
    kernel.mount(
        "none", "/", None, kernel.REMOUNT | kernel.BIND | kernel.RDONLY | kernel.NOSUID | kernel.NODEV
    )


def covered(places: list[str]) -> list[str]:
    """What of the granted places the file systems of a box's own would hide."""
    return [place for place in _tops(places) if place.startswith(OWN)]


def _tops(places: list[str]) -> list[str]:
    """The places that exist and lie below no other one; links are followed, both names are kept."""
    wanted: list[str] = []
    for place in places:
        if os.path.exists(place):
            real = os.path.realpath(place)
            # A link at the top, as merged-usr systems have, is made again.
            wanted += [real] if os.path.islink("/" + place.split("/")[1]) else [place, real]
    kept: list[str] = []
    for place in sorted(set(wanted)):
        if not any(place.startswith(f"{above}/") for above in kept):
            kept.append(place)
    return kept


def _touch(path: str, text: str = "") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
