"""The loop, the archive, parent selection, learning, the gate.

`moevolve.evolve` names this room and the function that starts a run (`mv.evolve("quickstart", out=...)`). Importing a
submodule binds the room to that name, so the room itself is callable and passes the call on to `moevolve.api`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallableRoom(ModuleType):
    """This module, callable."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("moevolve.api").evolve(*arguments, **options)


sys.modules[__name__].__class__ = _CallableRoom
