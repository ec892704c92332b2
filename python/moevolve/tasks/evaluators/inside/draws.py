"""Generators of a program's process: they start from the evaluation's key, whoever imports them."""

from __future__ import annotations

import os
import sys
from _random import Random

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from typing import Any

_started = Random.seed
"""What `random.seed` does with an integer, in one function of C."""


def generator() -> Any:
    """The generator of `random`, which after a fork does not start from entropy, in Python, before `reseed` starts it."""
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    try:
        import random
    finally:
        os.register_at_fork = register
    random.seed(0)
    return random._inst


def reseed(generator: Any, key: int) -> None:
    """Starts the generators that a program may draw from without a seed of its own."""
    _started(generator, key)
    generator.gauss_next = None
    os.register_at_fork(after_in_child=generator.seed)  # Processes that it forks itself differ, as anywhere.
    if "numpy.random" in sys.modules:
        _reseed_numpy(sys.modules["numpy.random"], key)
    else:
        sys.meta_path.insert(0, _AtImport(key))


def _reseed_numpy(module: types.ModuleType, key: int) -> None:
    seed = getattr(module, "seed", None)
    if callable(seed):  # A module beside the evaluator may bear its name.
        seed(key & 0xFFFFFFFF)


class _AtImport:
    """Finds `numpy.random` where nobody had imported it before the program does, and starts its generator."""

    def __init__(self, key: int) -> None:
        self._key = key

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "numpy.random":
            return None
        sys.meta_path.remove(self)
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path)
        found = next((spec for spec in specs if spec is not None), None)
        loader: Any = found and found.loader
        if hasattr(loader, "exec_module"):
            execute = loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                execute(module)
                _reseed_numpy(module, self._key)

            loader.exec_module = exec_module
        return found
