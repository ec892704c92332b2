"""What a replay takes from the record instead of asking for it again: programs of a model and of a user's own proposer."""

from __future__ import annotations

import msgspec

from moevolve.journal.store import RunStore
from moevolve.loop import writing
from moevolve.loop.optimise.search import Plan
from moevolve.loop.variants import genome_in
from moevolve.records import Metered, Rated, VariantAdded
from moevolve.tasks.evaluators.folder import EvaluatorFolder

STAGE = "evaluation"
BILLED = f"{writing.STAGE} {STAGE} "
"""What a bill's stage begins with, before the evaluation's number."""


def modelled(recorded: RunStore) -> set[int]:
    """Evaluations whose programs a model was asked for, by its bills."""
    stages = (record.stage for _, record, _ in recorded.records() if isinstance(record, Metered))
    numbers = (stage.removeprefix(BILLED) for stage in stages if stage.startswith(BILLED))
    return {int(number) for number in numbers if number.isdecimal()}


def recorded_plan(
    plan: Plan, variant: VariantAdded, rated: Rated, source: RunStore, folder: EvaluatorFolder
) -> Plan:
    """The plan with the program on record, where a proposer is not asked again."""
    refused = rated.failure if rated.failure in ("duplicate", "rejected") else None
    return msgspec.structs.replace(
        plan,
        text=genome_in(source, variant.program).files[folder.program],
        operator=variant.operator,
        summary=variant.summary,
        refused=refused,
        detail=rated.detail if refused else "",
    )
