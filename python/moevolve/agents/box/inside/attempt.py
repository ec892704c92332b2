"""One box, from the fork in the nursery on: namespaces, workspace, listening socket, an init, and the agent under it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

from inside import kernel
from inside.agent import begin
from inside.init import supervise

USER = 1000
"""Whom everybody is inside: never this machine's root."""
PORT = 8000
PROGRAM = (b"#!", b"\x7fELF")
"""What a file of a workspace begins with that may be executed."""
SPACES = (
    kernel.NEWUSER
    | kernel.NEWNS
    | kernel.NEWNET
    | kernel.NEWPID
    | kernel.NEWIPC
    | kernel.NEWUTS
    | kernel.NEWCGROUP
)


def attempt(
    job: dict[str, Any], held: list[int], control: socket.socket, spec: dict[str, Any], state: object
) -> None:
    """Makes a box and runs a job in it; does not return.

    Args:
        job: what the host asks for.
        held: descriptors that came with it: of the agent's output, errors and answer, how it ended, a workspace to show.
        control: where the host hears what it needs to go on.
        spec: the nursery's own.
        state: what the nursery has prepared.
    """
    output, errors, answer, status, *shown = held
    kernel.first_to_go()
    _enter()
    workspace = _files(job, shown, spec["covered"])
    gifts = [workspace]
    listener = _listener() if job["listen"] else None
    if listener is not None:
        gifts.append(listener.fileno())
    before, after = os.pipe()
    init = os.fork()
    if init == 0:
        kernel.die_with_parent()
        os.close(after)
        control.close()
        os.close(workspace)
        if listener is not None:
            listener.close()
        os.read(before, 1)  # Until the host has what it needs.
        os.close(before)
        _init(job, (output, errors, answer), status, spec, state)
    os.close(before)
    handle = kernel.process_handle(init)
    kernel.send(control, json.dumps({"id": job["id"]}).encode(), [handle, *gifts])
    os.close(after)
    for descriptor in (handle, *gifts, *held):
        os.close(descriptor)
    if listener is not None:
        listener.detach()
    os.waitpid(init, 0)
    os._exit(0)


def _enter() -> None:
    """Namespaces of its own, as an ordinary user of them."""
    os.setsid()
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    kernel.dumpable()
    kernel.unshare(SPACES)
    kernel.die_with_parent()
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{USER} {USER} 1"),
        ("gid_map", f"{USER} {USER} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    socket.sethostname("box")
    kernel.raise_loopback()


def _files(job: dict[str, Any], shown: list[int], covered: list[str]) -> int:
    """Lays out the box's files; returns a read-only copy of its workspace's mount."""
    size, nodes = job["limits"]["workspace"], job["limits"]["nodes"]
    options = f"size={size},nr_inodes={nodes},mode=755,uid={USER},gid={USER}"
    plain = kernel.NOSUID | kernel.NODEV
    kernel.mount("none", "/", None, kernel.RECURSIVE | kernel.PRIVATE)
    kernel.mount("none", "/box/agent", "tmpfs", plain, f"size=16m,mode=755,uid={USER},gid={USER}")
    for path, text in job["files"].items():
        _write("/box/agent", path, text.encode("utf-8", "surrogatepass"), 0o755)
    kernel.mount("none", "/box/agent", None, kernel.REMOUNT | kernel.BIND | kernel.RDONLY | plain)
    kernel.mount("none", "/box/space", "tmpfs", plain, options)
    hidden = [(place, os.path.isdir(place), kernel.clone_of(place)) for place in covered]
    for name, target in (("work", "/box/work"), ("tmp", "/tmp"), ("shm", "/dev/shm")):
        os.mkdir(f"/box/space/{name}", 0o755 if name == "work" else 0o1777)
        kernel.mount(f"/box/space/{name}", target, None, kernel.BIND)
    kernel.detach("/box/space")
    kernel.mount("none", "/run", "tmpfs", plain | kernel.RDONLY, "size=4k")
    for place, is_folder, tree in hidden:
        if is_folder:
            os.makedirs(place, exist_ok=True)
        else:
            _write("/", place.lstrip("/"), b"")
        kernel.attach(tree, place)
        os.close(tree)
    for path, data in job["workspace"].items():
        _write("/box/work", path, data, 0o755 if data.startswith(PROGRAM) else None)
    if shown:
        kernel.attach(shown[0], "/box/graded")
    elif job["show"] is not None:
        kernel.mount("none", "/box/graded", "tmpfs", plain, options)
        for path, data in job["show"].items():
            _write("/box/graded", path, data)
        kernel.mount("none", "/box/graded", None, kernel.REMOUNT | kernel.BIND | kernel.RDONLY | plain)
    copy = kernel.clone_of("/box/work")
    kernel.seal(copy)
    return copy


def _write(folder: str, path: str, data: bytes, mode: int | None = None) -> None:
    target = os.path.join(folder, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(data)
        if mode is not None:
            os.chmod(file.fileno(), mode)


def _listener() -> socket.socket:
    """The one listening socket of this network; who holds it answers, wherever that is."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", PORT))
    listener.listen(256)
    return listener


def _init(
    job: dict[str, Any], streams: tuple[int, int, int], status: int, spec: dict[str, Any], state: object
) -> None:
    """Process 1: mounts its /proc, starts the agent, and ends with it."""
    kernel.mount("proc", "/proc", "proc", kernel.NOSUID | kernel.NODEV | kernel.RDONLY | kernel.NOEXEC)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    agent = os.fork()
    if agent == 0:
        try:
            os.close(status)
            begin(job, streams, spec["filter"], state)
        except BaseException as error:  # noqa: BLE001  there is no host to hear it but by the agent's own stream
            what = job["argv"][0] if job["argv"] else "it"
            os.write(2, f"the box cannot run {what}: {error}\n".encode("utf-8", "replace"))
        finally:
            os._exit(120)
    for descriptor in (0, 1, 2, *streams):
        os.close(descriptor)
    ended = supervise(agent, job["limits"])
    sys.stderr = sys.stdout = None  # type: ignore[assignment]
    os.write(status, json.dumps(ended).encode())
    os._exit(0)
