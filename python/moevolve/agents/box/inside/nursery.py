"""The nursery: a process that holds an interpreter with its libraries imported, and forks a box for each attempt.

It runs nobody's agent, only the libraries that a frozen `agent.toml` names; its privileges end at its own namespaces.
"""

from __future__ import annotations

import gc
import importlib
import json
import marshal
import os
import signal
import socket
import sys
import traceback
import warnings
from typing import Any

from inside import kernel, root
from inside.attempt import attempt
from inside.warmup import warm_up

HOME = "/run"


def main(descriptor: int) -> None:
    """Serves jobs until the host is gone.

    Args:
        descriptor: of the socket to the host.
    """
    kernel.die_with_parent()
    control = socket.socket(fileno=descriptor)
    _, [held] = kernel.receive(control)
    spec = _loaded(held)
    try:
        state = _ready(control, spec)
    except BaseException as error:  # noqa: BLE001  an import may raise anything; the host says it
        _say(control, {"failed": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()[-2000:]})
        return
    _say(control, {"ready": True})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, held = kernel.receive(control)
        if not message:
            return
        first, *rest = held
        job = _loaded(first)
        try:
            child = os.fork()
        except OSError as error:
            _say(control, {"id": job["id"], "failed": str(error)})
            child = -1
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                attempt(job, rest, control, spec, state)
            except BaseException as error:  # noqa: BLE001  whatever the set-up meets, the host says it
                _say(
                    control, {"id": job["id"], "failed": str(error), "trace": traceback.format_exc()[-2000:]}
                )
            finally:
                os._exit(1)
        for descriptor in rest:
            os.close(descriptor)


def _loaded(descriptor: int) -> dict[str, Any]:
    """What the host has put into a file for us."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        loaded: dict[str, Any] = marshal.loads(file.read())
    return loaded


def _say(control: socket.socket, message: dict[str, Any]) -> None:
    kernel.send(control, json.dumps(message).encode())


def _ready(control: socket.socket, spec: dict[str, Any]) -> object:
    """Namespaces, the root, and what is imported."""
    kernel.unshare(kernel.NEWUSER | kernel.NEWNS | kernel.NEWIPC | kernel.NEWNET)
    kernel.die_with_parent()
    kernel.dumpable()
    _say(control, {"user": os.getpid()})
    if not kernel.receive(control)[0]:
        os._exit(0)
    if 0 in spec["users"]:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        kernel.die_with_parent()
        kernel.dumpable()
    root.build(spec["places"], spec["hidden"])
    spec["covered"] = root.covered(spec["places"])
    os.chdir("/")
    os.environ.clear()
    os.environ.update(spec["environment"], HOME=HOME, TMPDIR=HOME)
    sys.path[:] = spec["path"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in spec["import"]:
            importlib.import_module(name)
        if spec["import"]:
            warm_up()
    state = None
    if spec["prepare"]:
        module, _, name = spec["prepare"].partition(":")
        state = getattr(importlib.import_module(module), name)(spec["argument"])
    gc.collect()
    gc.freeze()
    return state
