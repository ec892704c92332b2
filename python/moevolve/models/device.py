"""Where a network's blocks are computed: a device by its name, and what a card would need here."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from moevolve import _native
from moevolve.errors import UsageError

CARD = re.compile(r"cuda(?::([0-9]{1,3}))?")
DRIVER = "libcuda.so.1"
KERNELS = "moevolve_cuda13"
"""The package that has the compiled kernels."""
LEAST_DRIVER = 13000
"""CUDA version that a driver must support, 1000 times the major and 10 times the minor number."""
LEAST_CAPABILITY = (8, 0)
"""Compute capability of the first cards with bf16."""
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class Cards:
    """What the driver says of this machine's cards.

    Args:
        driver: CUDA version that the driver supports, as `LEAST_DRIVER`; None where there is none.
        names: of the cards.
        capabilities: compute capability of each.
        failure: the driver's own number for why it does not work; 0 where it does.
    """

    driver: int | None = None
    names: tuple[str, ...] = ()
    capabilities: tuple[tuple[int, int], ...] = ()
    failure: int = 0


def cards(driver: str = DRIVER) -> Cards:
    """The cards of this machine, as the driver's library names them."""
    try:
        library = ctypes.CDLL(driver)
    except OSError:
        return Cards()
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    if failure := library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)):
        return Cards(driver=version.value, failure=int(failure))
    names: list[str] = []
    capabilities: list[tuple[int, int]] = []
    for index in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
        major, minor = ctypes.c_int(), ctypes.c_int()
        library.cuDeviceGet(ctypes.byref(device), index)
        library.cuDeviceGetName(name, len(name), device)
        library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
        names.append(name.value.decode(errors="replace"))
        capabilities.append((major.value, minor.value))
    return Cards(driver=version.value, names=tuple(names), capabilities=tuple(capabilities))


def kernels() -> Path | None:
    """The folder of the compiled kernels for cards; None where they are not installed."""
    found = importlib.util.find_spec(KERNELS)
    return None if found is None or found.origin is None else Path(found.origin).parent


def missing(index: int = 0, there: Cards | None = None) -> list[str]:
    """What stands between this machine and computing on a card: what the machine lacks, then what is not installed.

    Args:
        index: of the card.
        there: the cards, where they are known.
    """
    there = cards() if there is None else there
    lacks: list[str] = []
    if there.driver is None:
        lacks.append(f"there is no NVIDIA driver ({DRIVER} is not found)")
    elif there.driver < LEAST_DRIVER:
        lacks.append(
            f"the NVIDIA driver supports CUDA {_version(there.driver)}, and {_version(LEAST_DRIVER)} is needed"
        )
    elif there.failure:
        lacks.append(f"the NVIDIA driver does not start (error {there.failure})")
    elif index >= len(there.names):
        lacks.append(f"there is no card {index}: the driver has {len(there.names)}")
    elif there.capabilities[index] < LEAST_CAPABILITY:
        lacks.append(f"{there.names[index]} does not multiply bf16: compute capability 8.0 is needed")
    if kernels() is None:
        lacks.append("the kernels for cards are not installed (pip install 'moevolve[cuda]')")
    return lacks


def settled_device(device: str) -> str:
    """The device that a name stands for: `cpu` or `cuda:N`; `auto` is the first card where it can be used, else `cpu`.

    Raises:
        UsageError: another name, or a card (`cuda` or `cuda:N`) that cannot be used; the message says what is missing.
    """
    if device == "cpu":
        return "cpu"
    if device == "auto":
        return "cpu" if missing() else "cuda:0"
    index = _index(device)
    if lacks := missing(index):
        raise UsageError(f"device {device!r} cannot be used here: {', and '.join(lacks)}; cpu and auto can")
    return f"cuda:{index}"


def place(native: _native.Engine, device: str, precision: str | None = None) -> None:
    """Moves an engine to the device that a name stands for, and to a precision there, if one is named.

    A network that cards do not run stays on the processor where the name is `auto`.

    Raises:
        UsageError: the device cannot be used here, or does not run the network.
        CapacityError: the card has not enough memory; the engine stays where it was.
    """
    where, folder = settled_device(device), kernels()
    if where != "cpu" and folder is not None:
        if native.device != where:
            native.to_card(_index(where), folder, DRIVER, precision, device == "auto")
        if native.device == where:
            return
    native.to_cpu()
    if precision not in (None, native.precision):
        native.precision = precision


def _index(device: str) -> int:
    found = CARD.fullmatch(device)
    if found is None:
        raise UsageError(f"device {device!r} is none: take cpu, auto, cuda or cuda:N, the card with number N")
    return int(found[1] or 0)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
