"""The process that writes a run, and its machine: noted beside the chain, for people."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version

from moevolve.records import Session


def session() -> Session:
    """This process, which begins or goes on with a run now."""
    return Session(
        host=platform.node(),
        pid=os.getpid(),
        began=time.time(),
        version=_version(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processors=len(os.sched_getaffinity(0)),
    )


def _version() -> str:
    try:
        return version("moevolve")
    except PackageNotFoundError:
        return ""
