"""Decisions made again by code that shares nothing with the gate's: the two agree to 1e-9 on every figure."""

from __future__ import annotations

import json
import math
from random import Random

import msgspec
import pytest

from moevolve.auditor.decisions import Decisions
from moevolve.auditor.findings import Findings
from moevolve.auditor.statistics import Differences, paired_gain, share, spent, wilson
from moevolve.gate import capital, confirmed
from moevolve.gate.betting import Paired, PairedGate
from moevolve.gate.spending import RULE, AlphaSpending
from moevolve.journal import intervals
from moevolve.journal.archive import Variant
from moevolve.loop import entries
from moevolve.records import Gated, Guarded, RunStarted, SkillInfo

SKILLS = ["a", "b", "c"]
GATE = {
    "alpha": 0.05,
    "margin": 0.15,
    "skill_alpha": 0.05,
    "min_n": 24,
    "max_n": 600,
    "confirm_n": 900,
    "batch": 48,
}


def started(**gate: float) -> RunStarted:
    return RunStarted(
        run="run",
        seed=0,
        arm="full",
        suite="suite",
        answers="any",
        skills=[SkillInfo(path=path, summary="", levels=(1, 1)) for path in SKILLS],
        config=json.dumps({"gate": GATE | gate}),
        champion="v0000",
        weights="",
        program="",
        parameters=0,
    )


def decided(
    rng: Random, number: int, spending: AlphaSpending, champion: str, best: list[str], world: dict[str, float]
) -> tuple[Gated, PairedGate]:
    """A decision by the gate itself, with its record."""
    test = PairedGate(
        alpha=spending.level,
        skills=SKILLS,
        best=best,
        **{name: value for name, value in GATE.items() if name != "alpha"},  # type: ignore[arg-type]
    )

    def score(chance: float) -> float | None:
        if rng.random() < world["missing"]:
            return None
        return rng.choice((0.25, 0.5)) if rng.random() < world["partial"] else float(rng.random() < chance)

    while test.verdict.decision is None:
        test.update(
            [
                Paired(want.skill, score(world[want.skill]), score(0.5), want.best)
                for want in test.wants()
                for _ in range(want.n)
            ]
        )
    name = f"v{number:04d}"
    child = Variant(name, [champion], 1, "", "", "program", "operator", "", None, "candidate")
    record = entries.gated(
        child, champion, "program", test.verdict, spending.level, 1, 0, spending, test.pairs
    )
    return msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Gated), test


@pytest.mark.parametrize("seed", range(12))
def test_the_decisions_of_a_run_are_made_again(seed: int) -> None:
    rng = Random(seed)
    findings = Findings()
    again = Decisions(findings)
    again.take(0, started())
    spending = AlphaSpending(alpha=GATE["alpha"])
    champion = "v0000"
    levels = confirmed.begin(SKILLS, champion)
    kinds = set()
    for number in range(1, 9):
        world = {skill: rng.choice((0.3, 0.5, 0.5, 0.7, 0.9)) for skill in SKILLS}
        world |= {"missing": rng.choice((0.0, 0.0, 0.02, 0.2)), "partial": rng.choice((0.0, 0.3))}
        best = list(confirmed.elsewhere(levels, champion))
        record, test = decided(rng, number, spending, champion, best, world)
        again.take(number, record)
        kinds.add(record.decision)
        spending = spending.after(promoted=record.decision == "promote")
        if record.decision == "promote":
            levels = confirmed.promoted(levels, test, record.candidate, champion)
            champion = record.candidate
    assert findings.listed == []
    assert len(kinds) > 1
    assert again.spent == pytest.approx(spending.spent, abs=1e-12)
    assert all(each.checked and each.recomputed == each.decision for each in again.figures)


def test_few_tasks_lower_the_least_number_and_may_run_out() -> None:
    findings = Findings()
    again = Decisions(findings)
    again.take(0, started(min_n=240))
    again.take(1, Guarded(cycle=0, guard="finite data", checked=12, vetoed=0, detail=""))
    spending = AlphaSpending(alpha=GATE["alpha"])
    test = PairedGate(
        alpha=spending.level, margin=0.15, min_n=12, max_n=600, skills=SKILLS, skill_alpha=0.05, confirm_n=900
    )
    test.update([Paired(skill, 1.0, 1.0) for skill in SKILLS for _ in range(4)])
    verdict = test.give_up("no fresh tasks are left")
    child = Variant("v0001", ["v0000"], 1, "", "", "program", "operator", "", None, "candidate")
    record = entries.gated(child, "v0000", "program", verdict, spending.level, 1, 0, spending, test.pairs)
    again.take(2, record)
    assert findings.listed == []
    # With tasks to come, an undecided test is no decision.
    findings = Findings()
    again = Decisions(findings)
    again.take(0, started())
    again.take(1, msgspec.structs.replace(record, reason="enough seen"))
    assert [finding.check for finding in findings.listed] == ["gate"]


@pytest.mark.parametrize(("missing", "decision"), [(1, "void"), (0, "archive")])
def test_a_test_whose_tasks_ran_out_is_void_where_too_many_pairs_had_no_answer(
    missing: int, decision: str
) -> None:
    spending = AlphaSpending(alpha=GATE["alpha"])
    settings = {name: value for name, value in GATE.items() if name != "alpha"}
    test = PairedGate(alpha=spending.level, skills=SKILLS, **settings)  # type: ignore[arg-type]
    test.update([*[Paired(skill, 1.0, 1.0) for skill in SKILLS * 4], *[Paired("a", None, None)] * missing])
    verdict = test.give_up("no fresh tasks are left")
    child = Variant("v0001", ["v0000"], 1, "", "", "program", "operator", "", None, "candidate")
    record = entries.gated(child, "v0000", "program", verdict, spending.level, 1, 0, spending, test.pairs)
    assert record.decision == decision
    for said in ("void", "archive"):
        findings = Findings()
        again = Decisions(findings)
        again.take(0, started())
        again.take(1, msgspec.structs.replace(record, decision=said))
        assert [finding.check for finding in findings.listed] == ["gate"] * (said != decision), said


def test_going_on_after_a_decision_is_found() -> None:
    rng = Random(2)
    spending = AlphaSpending(alpha=GATE["alpha"])
    world = dict.fromkeys(SKILLS, 0.95) | {"missing": 0.0, "partial": 0.0}
    record, _ = decided(rng, 1, spending, "v0000", [], world)
    assert record.decision == "promote"
    last = 1 + record.pairs[-1].batch
    more = [msgspec.structs.replace(each, batch=last) for each in record.pairs if each.batch == 0]
    findings = Findings()
    again = Decisions(findings)
    again.take(0, started())
    again.take(1, msgspec.structs.replace(record, pairs=[*record.pairs, *more]))
    assert any("went on" in finding.text for finding in findings.listed)


def test_statistics_agree_with_the_gates() -> None:
    rng = Random(1)
    for _ in range(200):
        counts = {rng.choice((-1.0, -0.5, 0.0, 0.25, 1.0)): rng.randint(1, 400) for _ in range(4)}
        ours = Differences(counts)
        margin = rng.choice((0.0, 0.05, 0.3))
        assert ours.log_capital(margin) == pytest.approx(capital.log_capital(counts, margin), abs=1e-9)
        assert ours.log_against(margin) == pytest.approx(
            capital.log_capital(capital.mirrored(counts), -margin), abs=1e-9
        )
        assert ours.lower_bound(0.01) == pytest.approx(capital.lower_bound(counts, 0.01), abs=1e-9)
        assert ours.tasks_needed(3.0, margin, 1.5) == pytest.approx(
            capital.tasks_needed(counts, 3.0, margin, 1.5), rel=1e-9
        )


def test_capital_is_what_its_definition_says() -> None:
    """One win and one loss, by hand."""
    by_hand = math.log(sum((1 + s) * (1 - s) for s in (0.1, 0.2, 0.4, 0.7, 0.95)) / 5)
    assert Differences({1.0: 1, -1.0: 1}).log_capital() == pytest.approx(by_hand, abs=1e-12)


def test_budgets_and_intervals_agree() -> None:
    spending = AlphaSpending(alpha=0.05)
    for decision in range(40):
        assert share(0.05, spending.decisions - spending.promotions) == pytest.approx(spending.level)
        spending = spending.after(promoted=decision % 7 == 0)
        assert spent(0.05, spending.decisions - spending.promotions) == pytest.approx(spending.spent)
    rng = Random(3)
    before = [rng.choice((None, 0.0, 0.5, 1.0)) for _ in range(90)]
    after = [rng.choice((None, 0.0, 0.5, 1.0)) for _ in range(90)]
    theirs = intervals.paired_gain(before, after)
    ours = paired_gain(before, after)
    assert theirs is not None and ours is not None
    assert (ours[0], ours[1:]) == (pytest.approx(theirs[0]), pytest.approx(theirs[1]))
    second = intervals.wilson(41.5, 80)
    assert wilson(second.mean, 80) == pytest.approx((second.low, second.high))
    assert RULE == "fallback-harmonic-10"
