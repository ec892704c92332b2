"""Forged records: an attacker who recomputes every hash, so that only what records say together can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.auditor import audit
from moevolve.auditor.scores import is_paired_interval
from moevolve.journal.intervals import paired_gain
from moevolve.records import (
    AGAIN_STAGE,
    Ablated,
    Attempted,
    Chosen,
    Command,
    Controlled,
    CycleFinished,
    Difference,
    Evaluated,
    Gated,
    Generalised,
    Guarded,
    Interval,
    Nulls,
    ProposerAsked,
    Record,
    RunFinished,
    RunStarted,
    Screened,
    SealedOpened,
    VariantAdded,
)

replace = msgspec.structs.replace

Change = Callable[[list[Record]], list[Record]]
Forge = Callable[[Change], Path]


def first(records: Sequence[Record], kind: type[Record], **fields: object) -> int:
    return next(
        index
        for index, record in enumerate(records)
        if isinstance(record, kind) and all(getattr(record, name) == value for name, value in fields.items())
    )


def changed(
    kind: type[Record], change: Callable[[Any], Record], **fields: object
) -> Callable[[list[Record]], list[Record]]:
    def write(records: list[Record]) -> list[Record]:
        index = first(records, kind, **fields)
        return [*records[:index], change(records[index]), *records[index + 1 :]]

    return write


def with_nulls(records: list[Record]) -> list[Record]:
    half = Interval(mean=0.5, low=0.4, high=0.6, n=96)
    nulls = Nulls(
        cycle=1,
        variant="v0000",
        samples=2,
        champion=half,
        greedy=half,
        self_consistency=half,
        best_of=half,
        tokens=0,
        over={"greedy": Difference(gain=0.2, low=0.1, high=0.3, n=96)},
    )
    end = first(records, RunFinished)
    return [*records[:end], nulls, *records[end:]]


def promoted(record: Gated) -> Record:
    return replace(record, decision="promote", reason="better", evidence=9.0, vetoes=[])


def without_a_loss(record: Gated) -> Record:
    group = record.pairs[0]
    return replace(
        record,
        pairs=[replace(group, candidate=[1 - (score or 0) for score in group.candidate]), *record.pairs[1:]],
    )


def better(record: Evaluated) -> Record:
    return replace(record, score=replace(record.score, mean=0.9))


def with_more_attempts(change: Callable[[Attempted], Record]) -> Callable[[list[Record]], list[Record]]:
    """A stage of direct attempts, and another one like it."""

    def made(records: list[Record]) -> list[Record]:
        index = first(records, Attempted, source="direct")
        record = records[index]
        assert isinstance(record, Attempted)
        # It drew no token: nothing else on file tells of it.
        return [*records[: index + 1], change(replace(record, tokens=0)), *records[index + 1 :]]

    return made


def twice(records: list[Record]) -> list[Record]:
    index = first(records, Evaluated, split="sealed", when="final")
    return [*records[:index], records[index], *records[index:]]


def unopened(records: list[Record]) -> list[Record]:
    return [record for record in records if not isinstance(record, SealedOpened) or record.when != "final"]


def ablated(**fields: object) -> Callable[[list[Record]], list[Record]]:
    """A record of promoted weights, of which the run has none, before the end of its first cycle."""

    def write(records: list[Record]) -> list[Record]:
        index = first(records, CycleFinished)
        half = Interval(mean=0.5, low=0.09453120573423074, high=0.9054687942657693, n=2)
        record = Ablated(
            cycle=1,
            weights="v0001",
            bare=half,
            old=half,
            program="0" * 64,
            searched=None,
            variant=None,
            promoted=False,
            outcomes={"bare": [0.0, 1.0], "old": [1.0, 0.0]},
            tokens=0,
        )
        return [*records[:index], replace(record, **fields), *records[index:]]

    return write


def unsaid(records: list[Record]) -> list[Record]:
    return [record for record in records if not isinstance(record, Gated) or record.level != "weights"]


def crowned(command: Command, **said: object) -> Callable[[list[Record]], list[Record]]:
    """A person's word that makes v0001 the champion of the last cycle, and of all that is told after it."""

    def write(records: list[Record]) -> list[Record]:
        index = max(at for at, record in enumerate(records) if isinstance(record, CycleFinished))
        last = records[index]
        assert isinstance(last, CycleFinished)
        word = Controlled(
            cycle=last.cycle, request=1, command=command, variant="", done=True, champion="v0001"
        )
        after = [
            replace(record, champion="v0001")
            if isinstance(record, CycleFinished | RunFinished)
            else replace(record, variant="v0001")
            if isinstance(record, Evaluated)
            else record
            for record in records[index:]
        ]
        return [*records[:index], replace(word, **said), *after]

    return write


def refused_by_a_guard(records: list[Record]) -> list[Record]:
    """A veto of the candidate of the first decision, which says nothing of it."""
    index = first(records, Gated)
    decision = records[index]
    assert isinstance(decision, Gated)
    veto = Guarded(
        cycle=decision.cycle,
        guard="canaries",
        checked=1,
        vetoed=1,
        detail="",
        variant=decision.candidate,
        alarm=True,
        evidence=9.0,
        proof=3.0,
    )
    return [*records[:index], veto, *records[index:]]


def generalised(records: list[Record]) -> list[Record]:
    """A column of a run that was not asked for one, at its end."""
    last = records[-1]
    assert isinstance(last, RunFinished)
    column = Generalised(
        cycle=2,
        column="G3",
        variant=last.champion,
        cells=[("text/other", 1, 1)],
        outcomes={"seed": [0.0], "champion": [1.0]},
        seed=Interval(mean=0.0, low=0.0, high=0.7934506856227626, n=1),
        champion=Interval(mean=1.0, low=0.20654931437723742, high=1.0, n=1),
        missing=0,
        tokens=0,
    )
    return [*records[:-1], column, last]


FORGERIES: dict[str, tuple[str, Callable[[list[Record]], list[Record]]]] = {
    "a decision": ("gate", changed(Gated, promoted)),
    "pairs": ("gate", changed(Gated, without_a_loss)),
    "alpha": ("gate", changed(Gated, lambda record: replace(record, alpha=0.04))),
    "spending": ("gate", changed(Gated, lambda record: replace(record, spent=0.0))),
    "evidence by 1e-6": (
        "gate",
        changed(Gated, lambda record: replace(record, evidence=record.evidence + 1e-6)),
    ),
    "a bound": ("gate", changed(Gated, lambda r: replace(r, bounds=dict.fromkeys(r.bounds, 0.0)))),
    "no decision": ("gate", unsaid),
    "a pause that makes a champion": ("archive", crowned("pause")),
    "a refusal that makes a champion": ("archive", crowned("reject", variant="v0001")),
    "an approval that was not carried out": ("archive", crowned("approve", variant="v0001", done=False)),
    "an approval of another": ("archive", crowned("approve", variant="v0002")),
    "an approval of one that did not wait": ("gate", crowned("approve", variant="v0001")),
    "a veto that its decision does not know": ("gate", refused_by_a_guard),
    "a guard that no check is on record of": (
        "gate",
        changed(Gated, lambda r: replace(r, guards=["canaries"])),
    ),
    "an alarm without evidence": ("gate", changed(Guarded, lambda r: replace(r, alarm=True), guard="drift")),
    "a sealed mean": ("scores", changed(Evaluated, better, split="sealed", when="final")),
    "a dev mean": ("scores", changed(Evaluated, better, split="dev", when="cycle")),
    "an outcome": (
        "scores",
        changed(
            Evaluated,
            lambda r: replace(r, outcomes=[1 - (r.outcomes[0] or 0), *r.outcomes[1:]]),
            when="final",
        ),
    ),
    "an interval": (
        "scores",
        changed(
            Evaluated, lambda r: replace(r, score=replace(r.score, low=r.score.low + 0.01)), when="final"
        ),
    ),
    "weights that were never promoted": ("archive", ablated()),
    "an outcome of promoted weights": ("scores", ablated(outcomes={"bare": [0.0, 1.0], "old": [1.0, 1.0]})),
    "another score of promoted weights": (
        "scores",
        ablated(outcomes={"bare": [0.0, 1.0], "old": [1.0, 0.0], "searched": [1.0, 1.0]}),
    ),
    "tokens of promoted weights": ("budgets", ablated(tokens=7)),
    "a second look at the sealed split": ("sealed", twice),
    "no access to the sealed split": ("sealed", unopened),
    "another number of an access": (
        "sealed",
        changed(SealedOpened, lambda r: replace(r, count=3), when="final"),
    ),
    "other sealed tasks": (
        "sealed",
        changed(SealedOpened, lambda r: replace(r, digest="0" * 32), when="final"),
    ),
    "a generalisation column that nobody asked for": ("generalise", generalised),
    "tokens": (
        "budgets",
        changed(CycleFinished, lambda r: replace(r, tokens_generated=r.tokens_generated - 1)),
    ),
    "a champion": ("archive", changed(RunFinished, lambda r: replace(r, champion="v0001"))),
    "a parent": ("archive", changed(VariantAdded, lambda r: replace(r, parents=["v0099"]), variant="v0001")),
    "a program": ("blobs", changed(VariantAdded, lambda r: replace(r, program="0" * 64), variant="v0000")),
    "weights": (
        "weights",
        changed(VariantAdded, lambda r: replace(r, weights_file="0" * 64), variant="v0001"),
    ),
    "a screening": ("archive", changed(Screened, lambda r: replace(r, passed=not r.passed))),
    "a void screening in which all was answered": (
        "archive",
        changed(Screened, lambda r: replace(r, void=True, passed=False)),
    ),
    "a proposer's candidates": ("archive", changed(ProposerAsked, lambda r: replace(r, made=r.made + 1))),
    "more attempts than there were tasks for": (
        "budgets",
        changed(
            Attempted,
            lambda r: replace(r, tallies=[replace(r.tallies[0], attempts=10**6), *r.tallies[1:]]),
            source="direct",
        ),
    ),
    "attempts in two stages that were allowed one": ("budgets", with_more_attempts(lambda r: r)),
    "attempts that were hidden as made again": (
        "budgets",
        with_more_attempts(lambda r: replace(r, stage=AGAIN_STAGE)),
    ),
    "more than was asked of a proposer": (
        "budgets",
        changed(ProposerAsked, lambda r: replace(r, repeats=r.asked + 1)),
    ),
    "a choice": ("archive", changed(Chosen, lambda r: replace(r, chosen="v0077"))),
    "a difference that the scores beside it have not": ("scores", with_nulls),
    "settings": (
        "settings",
        changed(RunStarted, lambda r: replace(r, config=r.config.replace("0.05", "0.5"))),
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_record_is_found_although_its_hashes_fit(name: str, forge: Forge) -> None:
    check, change = FORGERIES[name]
    report = audit(forge(change))
    assert check in {finding.check for finding in report.findings if finding.kind == "mismatch"}, (
        report.findings
    )


def test_an_honest_copy_is_clean(forge: Forge) -> None:
    report = audit(forge(lambda records: records))
    assert report.ok, report.findings


def test_a_head_that_was_written_down_elsewhere_proves_the_rest(finished: Path, forge: Forge) -> None:
    """A consistent lie needs another head: a summary that nothing follows from."""
    head = audit(finished).chain.head
    lie = forge(changed(VariantAdded, lambda r: replace(r, summary="a gift"), variant="v0001"))
    assert audit(lie).ok
    assert not audit(lie, head=head).ok
    assert audit(finished, head=head).ok and audit(finished, head=head.upper()).ok


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_the_interval_of_any_pairs_is_one(pairs: list[tuple[float, float]]) -> None:
    pair = paired_gain([before for before, _ in pairs], [after for _, after in pairs])
    assert pair is not None
    found = Difference(gain=pair[0], low=pair[1][0], high=pair[1][1], n=len(pairs))
    assert is_paired_interval(found)


@pytest.mark.parametrize(("low", "high"), [(0.199, 0.201), (-1.0, 1.0), (0.19, 0.3), (0.1, 0.31)])
def test_an_interval_that_no_pairs_have_is_none(low: float, high: float) -> None:
    """96 pairs that differ by .2 in the mean: too narrow, too wide, about another centre."""
    assert not is_paired_interval(Difference(gain=0.2, low=low, high=high, n=96))
