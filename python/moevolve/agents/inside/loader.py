"""A program's files as modules, and a world without clocks and dice of its own."""

import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import PathFinder, spec_from_file_location


class SourceFinder:
    """Imports modules from the program's source, which exists as text only."""

    def __init__(self, files, operators):
        self.files = files
        self.operators = operators

    def find_spec(self, name, path=None, target=None):
        if f"{name}.py" in self.files:
            return ModuleSpec(name, self, origin=f"{name}.py")
        if name == "operators":
            return spec_from_file_location(
                name, f"{self.operators}/__init__.py", submodule_search_locations=[self.operators]
            )
        if name == "random":
            spec = PathFinder.find_spec(name)
            spec.loader = _Seeded(spec.loader)
            return spec
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = f"{module.__name__}.py"
        exec(compile(self.files[name], name, "exec"), module.__dict__)


def install(files, operators):
    """Makes the program's files importable, before anything else of the same name."""
    sys.meta_path.insert(0, SourceFinder(files, operators))


def still_clock(rounds):
    """Lets every clock of `time` show the number of rounds: nothing a program decides hangs on how fast it
    ran.

    A guard against accidents, not against intent: what a program does on purpose, the gate's fresh tasks
    judge.
    """
    import time

    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        setattr(time, name, lambda: float(rounds()))
        setattr(time, f"{name}_ns", lambda: rounds() * 1_000_000_000)
    time.sleep = lambda seconds: None


class _Seeded:
    """Loads the module `random` and seeds it at once: by itself it would ask the system for a seed."""

    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        module.seed(_step[0])


_step = [0]
"""Seed of the step that runs now."""


def reseed(seed, step):
    """Seeds the module `random` for one step of one attempt, now or when the step imports it."""
    _step[0] = seed * 1009 + step
    module = sys.modules.get("random")
    if module is not None:
        module.seed(_step[0])
