"""Requests of a person, carried out between two stages: approve or reject what waits, pause, stop, take up a program, take
back what the skill tree grew."""

from __future__ import annotations

from moevolve.agents.genome import Genome
from moevolve.agents.imports import fitted
from moevolve.journal.control import Request
from moevolve.loop.context import RunContext
from moevolve.loop.control import Asked, Stopped
from moevolve.loop.merges import take_back
from moevolve.loop.snapshot import Waiting
from moevolve.loop.stages.gate import crown
from moevolve.records import Controlled, Imported


def attend(run: RunContext, cycle: int, *, between: bool = False) -> None:
    """Takes up what was asked since the last time.

    Args:
        run: the run.
        cycle: the cycle under way, or the last one.
        between: whether the run stands between two cycles: it then goes on from what was carried out.

    Raises:
        Stopped: the run is to end; that is on record.
    """
    while (asked := run.control.next(run.journal.cursor)) is not None:
        if asked.request.command == "import":
            imported = _imported(run, cycle, asked)
            run.close([imported]) if between else run.journal.write([imported])
            continue
        done, detail, passed = True, "", None
        if asked.request.command in ("approve", "reject"):
            passed, detail = _answered(run, asked.request)
            done = passed is not None
        elif asked.request.command == "rollback":
            name = asked.request.variant
            done = run.growing.roll_back(name) or take_back(run.state, name)
            detail = "" if done else f"{name} is no change of the skill tree or of memory in force"
        record = Controlled(
            cycle=cycle,
            request=asked.number,
            command=asked.request.command,
            variant=asked.request.variant,
            done=done,
            champion=run.state.champion,
            level=passed.level if passed else None,
            detail=detail,
        )
        if asked.request.command == "stop":
            # No snapshot: whoever goes on meets this record again, and ends the run.
            run.journal.write([record])
            raise Stopped
        if between:
            run.close([record])
        else:
            run.journal.write([record])
        if asked.request.command == "pause" and asked.fresh:
            run.pausing = True


def _imported(run: RunContext, cycle: int, asked: Asked) -> Imported:
    """Puts a program among the next generation's candidates, or says why it cannot be there."""
    if asked.imported is not None:
        if asked.imported.done:
            run.state.imported.append(run.store.hold(Genome(files=asked.request.files)))
        return asked.imported
    files, fault = fitted(asked.request.files, run.store.genome(run.champion.program).files)
    program = ""
    if not fault:
        program = run.store.hold(Genome(files=files))
        known = next((each.id for each in run.archive if each.program == program), None)
        if known is not None:
            fault = f"it is the program of {known}"
        elif not run.arm.searches:
            fault = f"arm {run.config.arm} tries no programs"
        elif program in run.state.imported:
            fault = "it is a candidate already"
    if not fault:
        run.state.imported.append(program)
    return Imported(cycle=cycle, request=asked.number, program=program, done=not fault, detail=fault)


def _answered(run: RunContext, request: Request) -> tuple[Waiting | None, str]:
    """Carries out an approval or a rejection: what it was about, or why it cannot be, in words."""
    passed = next((each for each in run.state.waiting if each.variant == request.variant), None)
    if passed is None:
        return None, f"{request.variant} does not wait for approval"
    if request.command == "reject":
        run.state.waiting.remove(passed)
        run.archive.update(passed.variant, status="rejected")
        if run.state.learner == run.archive[passed.variant].weights:
            run.state.learner = run.champion.weights
        return passed, ""
    crown(run, passed)
    others = [each.variant for each in run.state.waiting if each is not passed]
    for name in others:
        run.archive.update(name, status="kept")
    run.state.waiting = []
    # They were compared with the champion before.
    return passed, f"no longer waiting: {', '.join(others)}" if others else ""
