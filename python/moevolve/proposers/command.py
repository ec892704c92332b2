"""A command of the user's as proposer: it reads the brief as JSON and writes candidates as JSON.

It runs beside the run with the user's own rights, as tools do; what it wrote is on record, so that a replay runs nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence

import msgspec
from blake3 import blake3

from moevolve.agents.brief import Brief
from moevolve.agents.genome import editable
from moevolve.agents.host import Proposals
from moevolve.errors import DivergedError
from moevolve.proposers.proposer import ProposalContext
from moevolve.records import Edit, Struct

MOST_BYTES = 8 << 20
"""Of what it writes."""


class Written(msgspec.Struct, frozen=True):
    """What a command came to."""

    output: bytes = b""
    failure: str | None = None
    detail: str = ""


class _Wire(Struct, frozen=True):
    path: str
    text: str
    operator: str = "command"
    summary: str = ""


Find = Callable[[str], Written | None]
Keep = Callable[[str, Written], None]


class Command:
    """Edits by a command; one that fails, hangs or writes nonsense proposes nothing.

    Args:
        arguments: what to run; empty in a replay, where nothing is run.
        seconds: most wall-clock time of a call, with all that it starts.
        find: what is on record of a call by its name.
        keep: puts a call on record.
    """

    def __init__(self, arguments: Sequence[str], seconds: float, find: Find, keep: Keep) -> None:
        self._arguments = list(arguments)
        self._seconds = seconds
        self._find = find
        self._keep = keep

    def propose(self, brief: Brief, context: ProposalContext) -> Proposals:
        told = msgspec.json.encode({"key": context.key, "brief": brief}, order="deterministic")
        name = blake3(told).hexdigest()
        written = self._find(name)
        if written is None:
            written = self._run(told)
            self._keep(name, written)
        if written.failure is not None:
            return Proposals([], written.failure, written.detail, 0, 1)
        try:
            offered = msgspec.json.decode(written.output, type=list[list[_Wire]])
        except msgspec.DecodeError as error:
            return Proposals([], "malformed", f"its output is no list of candidates: {error}"[:500], 0, 1)
        candidates, faults = [], []
        for edits in offered[: brief.candidates]:
            made = [Edit(**msgspec.structs.asdict(each)) for each in edits]
            fault = _fault(made, context)
            if fault is None:
                candidates.append(made)
            else:
                faults.append(fault)
        return Proposals(candidates, None, "", 0, 1, faults)

    def _run(self, told: bytes) -> Written:
        if not self._arguments:
            raise DivergedError("the replay asks the proposing command what the run never asked")
        try:
            process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return Written(failure="error", detail=f"{self._arguments[0]}: {error.strerror}")
        try:
            output, _ = process.communicate(told, timeout=self._seconds)
        except subprocess.TimeoutExpired:
            return Written(failure="timeout", detail=f"it took more than {self._seconds:g} s")
        finally:
            # Whatever it has started ends with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode != 0:
            return Written(failure="crash", detail=f"it ended with status {process.returncode}")
        if len(output) > MOST_BYTES:
            return Written(failure="malformed", detail=f"it wrote {len(output):,} bytes")
        return Written(output=output)


def _fault(edits: Sequence[Edit], context: ProposalContext) -> str | None:
    if not edits or not editable(context.program.files, edits):
        return "no edit, a frozen file, or a file that no program may have"
    return None if context.check is None else context.check(context.program.edited(edits))
