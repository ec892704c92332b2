"""The end of a program in a forked interpreter, as one of its own would come to it; the process leaves after it."""

from __future__ import annotations

import atexit
import gc
import io
import sys
import threading
import traceback
from collections.abc import Callable

_FILE = io.IOBase.__base__
"""What every file is by its own type: nothing is asked of an object that only says that it is one."""


def finish(folder: str) -> None:
    """Waits for threads that are no daemons, calls what is to be called at the end, and writes out what is open.

    Args:
        folder: where the program's own modules lie: what their names hold is let go, so that a compressed file, say,
            ends itself.
    """
    _done(threading._shutdown)  # type: ignore[attr-defined]
    _done(atexit._run_exitfuncs)
    _write_out()
    threading.excepthook = lambda told: None  # Daemons go on, and their names are gone.
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        if str(names.get("__file__")).startswith(f"{folder}/"):
            for name in [name for name in names if name != "__builtins__"]:
                names[name] = None
    _write_out()


def _write_out() -> None:
    for file in [each for each in gc.get_objects() if _FILE in type(each).__mro__]:
        try:
            file.flush()
        except Exception:  # noqa: BLE001  a file that is closed, or whose other side is gone
            continue


def _done(step: Callable[[], object]) -> None:
    try:
        step()
    except BaseException:  # noqa: BLE001  an agent's own code: the further steps are taken all the same
        traceback.print_exc()
