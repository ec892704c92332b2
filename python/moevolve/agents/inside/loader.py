"""A program's files as modules, and a step's time and entropy."""

import _signal
import sys
import time
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import PathFinder, spec_from_file_location
from _functools import partial

REFUSED = {"_ctypes", "_testcapi", "_testinternalcapi", "_xxsubinterpreters", "ctypes"}
"""Modules that lead around the interpreter; their files are out of reach as well."""

RESEED = 77
"""Number of the clock whose setting begins time and entropy anew from a number: the host answers it."""

STEADY = 78
"""Number of the clock that a program's steady clocks read."""

STEADY_NAMES = ("monotonic", "perf_counter", "process_time", "thread_time")

STARTS = 1 << 62
"""How many beginnings there are."""


SOURCE = "source"
"""Where packages of a program say that they lie."""


class SourceFinder:
    """Imports modules from the program's source, which exists as text only."""

    def __init__(self, files, operators):
        self.files = files
        self.operators = operators

    def find_spec(self, name, path=None, target=None):
        if name in REFUSED:
            raise ModuleNotFoundError(f"the sandbox has no module {name!r}", name=name)
        if path is None or path == [SOURCE]:
            file = name.replace(".", "/")
            if f"{file}.py" in self.files:
                return ModuleSpec(name, self, origin=f"{file}.py")
            if any(other.startswith(f"{file}/") and other.endswith(".py") for other in self.files):
                spec = ModuleSpec(name, self, origin=f"{file}/__init__.py", is_package=True)
                spec.submodule_search_locations = [SOURCE]
                return spec
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
        name = module.__spec__.origin
        exec(compile(self.files.get(name, ""), name, "exec"), module.__dict__)


def install(files, operators):
    """Makes the program's files importable, before anything else of the same name, and leaves timers to the worker."""
    sys.meta_path.insert(0, SourceFinder(files, operators))
    for name in ("setitimer", "alarm"):
        setattr(_signal, name, _no_timer)


def _no_timer(*arguments):
    raise PermissionError("a program sets no timers: what it decides would hang on how fast it runs")


def virtual_clock():
    """Asks the host to answer clocks and entropy from here on, which ends a trusted start.

    Where it does, the steady clocks of `time` become one that the interpreter does not read for itself. Where it does
    not, all clocks show the number of rounds, a guard against accidents only: the run says that the layer is missing.
    """
    try:
        time.clock_settime_ns(RESEED, 0)
        seconds, nanoseconds = partial(time.clock_gettime, STEADY), partial(time.clock_gettime_ns, STEADY)
        names = STEADY_NAMES
    except OSError:
        seconds, nanoseconds = (lambda: float(_rounds[0].count)), (lambda: _rounds[0].count * 1_000_000_000)
        names = "time", *STEADY_NAMES
        time.sleep = lambda seconds: None
        _begin[0] = lambda clock, start: None
    for name in names:
        setattr(time, name, seconds)
        setattr(time, f"{name}_ns", nanoseconds)


_rounds = []
"""The rounds under way; their number is the time where the host does not tell it."""


def count(rounds):
    """Begins to count these rounds."""
    _rounds[:] = [rounds]


class _Seeded:
    """Loads the module `random` and seeds it with the step, as for those that import it later."""

    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        module.seed(_step[0])


_step = [0]
"""Seed of the step that runs now."""

_begin = [time.clock_settime_ns]
"""What begins time and entropy."""


def reseed(seed, step):
    """Begins time, entropy and the module `random` anew for one step of one attempt: nothing of an earlier step, or of
    another attempt's, shows."""
    _step[0] = seed * 1009 + step
    _begin[0](RESEED, _step[0] % STARTS)
    module = sys.modules.get("random")
    if module is not None:
        module.seed(_step[0])
