"""Says what is really in force here: interpreter, kernels, sandbox layers, device, store, room on disk."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from moevolve import __version__
from moevolve.cli import output
from moevolve.errors import MoevolveError
from moevolve.records import Struct

LEAST_FREE = 2 << 30
"""Bytes on disk under which a run may be cut short."""


class Finding(Struct, frozen=True):
    """One thing that was looked at; not `ok` where a run would fail, or be less safe than it can be."""

    name: str
    ok: bool
    value: str
    advice: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def execute(options: argparse.Namespace) -> int:
    checks: list[Callable[[], Finding]] = [_python, _machine, _engine, _sandbox, _store, _gpu, _screen, _disk]
    findings = [check() for check in checks]
    if options.json:
        output.data({"moevolve": __version__, "ok": all(f.ok for f in findings), "findings": findings})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{'ok' if finding.ok else '!!'}  {finding.name:<{width}}  {finding.value}")
            if finding.advice:
                print(f"    {'':<{width}}  {finding.advice}")
    return 0 if all(finding.ok for finding in findings) else 1


def _python() -> Finding:
    return Finding(
        name="python",
        ok=sys.version_info >= (3, 11),
        value=f"{platform.python_implementation()} {platform.python_version()}, moevolve {__version__}",
    )


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Finding(name="machine", ok=True, value=f"{system}, {_processor()}, {cores} usable cores")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        "unknown processor",
    )


def _engine() -> Finding:
    """Loads the shipped seed: what it runs on is what runs will run on."""
    try:
        from moevolve.models.checkpoint import seed_checkpoint
        from moevolve.models.engine import Engine

        engine = Engine.load(seed_checkpoint(), precision="fastest")
    except MoevolveError as error:
        return Finding(name="engine", ok=False, value="the seed policy does not load", advice=str(error))
    except ImportError as error:
        return Finding(name="engine", ok=False, value="the native module does not load", advice=str(error))
    words = "tokenizer in place" if engine.has_tokenizer else "NO tokenizer"
    return Finding(
        name="engine",
        ok=engine.has_tokenizer,
        value=f"{engine.isa} kernels, {engine.precision} products, {engine.threads} threads; "
        f"seed of {engine.parameters:,} parameters, {words}",
    )


def _sandbox() -> Finding:
    try:
        from moevolve.agents.process import in_force

        walls = in_force()
    except ImportError as error:
        return Finding(name="sandbox", ok=False, value="the native module does not load", advice=str(error))
    missing = walls.missing
    return Finding(
        name="sandbox",
        ok=not missing,
        value=", ".join(walls.layers),
        advice=f"missing: {', '.join(missing)}; `sandbox.strict = true` refuses to run without them"
        if missing
        else "",
    )


def _store() -> Finding:
    """Writes a run and reads it back, where runs would go."""
    from moevolve.records import Timing

    try:
        from moevolve import _native
        from moevolve.journal.store import RunStore
        from moevolve.records import RunFinished

        with TemporaryDirectory(prefix="moevolve-doctor-") as folder:
            path = Path(folder) / "run"
            with RunStore.create(path) as store:
                store.append([RunFinished(cycles=0, champion="")], Timing(at=0.0))
                checked = store.verify()
        synced = _native.synced()
    except (MoevolveError, OSError, ImportError) as error:
        return Finding(name="store", ok=False, value="cannot write a journal", advice=str(error))
    return Finding(
        name="store",
        ok=checked == 1,
        value="LMDB journal writes, reads back and verifies",
        advice="" if synced else "MOEVOLVE_SYNC=off: records do not wait for the disk",
    )


def _gpu() -> Finding:
    """The cards that the driver has, and what is missing to compute on one; no run needs one."""
    from moevolve.models.device import cards, missing

    there = cards()
    names = ", ".join(there.names) or "none"
    lacks = missing(0, there)
    told = f"not used: {', and '.join(lacks)}" if lacks else "device cuda:0 can be used, and auto takes it"
    return Finding(name="gpu", ok=True, value=f"{names}; {told}")


def _screen() -> Finding:
    try:
        version = metadata.version("moevolve-tui")
    except metadata.PackageNotFoundError:
        return Finding(name="watch", ok=True, value="not installed", advice="pip install moevolve-tui")
    return Finding(name="watch", ok=True, value=f"moevolve-tui {version}")


def _disk() -> Finding:
    root = next(path for path in (Path("runs"), Path.cwd()) if path.exists())
    free = shutil.disk_usage(root).free
    return Finding(
        name="disk",
        ok=free >= LEAST_FREE,
        value=f"{free / (1 << 30):.1f} GiB free for {root.resolve()}",
        advice=""
        if free >= LEAST_FREE
        else "a run may stop for lack of space: free some, or use --out elsewhere",
    )
