"""The audit of optimisation runs: honest ones hold, forged verdicts and decisions are found."""

from __future__ import annotations

import math
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.auditor import audit
from moevolve.auditor.findings import Findings
from moevolve.auditor.optimisation import Optimisation, _permutation
from moevolve.gate.spending import AlphaSpending
from moevolve.journal import seal
from moevolve.journal.store import RunStore
from moevolve.loop.optimise import rule
from moevolve.loop.optimise import run as optimisation
from moevolve.loop.optimise.settings import settings
from moevolve.records import Improved, Rated, Record, RunStarted, Timing, VariantAdded
from moevolve.tasks.evaluators import folder as folders

replace = msgspec.structs.replace
NOISY = """
import random, runpy
def evaluate(path):
    return {"combined_score": runpy.run_path(path)["A"] + random.gauss(0, NOISE)}
"""


def finished(folder: Path, noise: float, **more: str) -> Path:
    problem = folder / "problem"
    problem.mkdir()
    (problem / "initial_program.py").write_text("A = 3\n")
    (problem / "evaluator.py").write_text(NOISY.replace("NOISE", str(noise)))
    (problem / "own.py").write_text(
        "def propose(brief, rng):\n    return f'A = {3 + brief.evaluation // 12}\\nB = {brief.evaluation}\\n'\n"
    )
    read = folders.openevolve(problem)
    given = {"evaluations": 90 if noise else 30, "proposers": [str(problem / "own.py")], **more}
    chosen = settings(read, given)
    return optimisation.start(read, chosen, folder / "run", workers=2)


@pytest.fixture(scope="module", params=[0.0, 0.2], ids=["steady", "noisy"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("optimised"), request.param)


def forged(run: Path, out: Path, change: Callable[[list[Record]], list[Record]]) -> Path:
    """The run once more with other records, every hash computed anew."""
    with RunStore.open(run) as source, RunStore.create(out) as store:
        entries = source.entries()
        for name in ("program", "evaluator"):
            shutil.copytree(run / name, out / name)
        for record in (entry.record for entry in entries):
            if isinstance(record, VariantAdded):
                store.put_blob(source.blob(record.program))
        for record in change([entry.record for entry in entries]):
            store.append([record], Timing(at=0.0))
        seal.write(store)
    return out


def changed(kind: type, **fields: object) -> Callable[[list[Record]], list[Record]]:
    """Changes the last record of a kind."""

    def change(records: list[Record]) -> list[Record]:
        place = max(at for at, record in enumerate(records) if isinstance(record, kind))
        return [*records[:place], replace(records[place], **fields), *records[place + 1 :]]

    return change


def turned(records: list[Record]) -> list[Record]:
    """Takes the first promotion for none."""
    place = next(
        at
        for at, record in enumerate(records)
        if isinstance(record, Improved) and record.decision == "promote"
    )
    return [*records[:place], replace(records[place], decision="archive"), *records[place + 1 :]]


def test_an_honest_run_holds(run: Path, tmp_path: Path) -> None:
    report = audit(run)
    assert report.ok, report.findings
    assert report.champion is not None and report.champion.variant != "v0"
    assert audit(forged(run, tmp_path / "copy", list)).ok


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(Improved, candidate_scores=[99.0] * 8), "scores are"),
        (changed(Improved, champion_scores=[-99.0]), "scores are"),
        (turned, "follows from the scores|was compared with"),
        (changed(Improved, champion="v3"), "was compared with v3"),
        (changed(Rated, evaluation=7), "was next"),
        (changed(Rated, score=None, failure=None), "or neither"),
        (lambda records: [each for each in records if getattr(each, "evaluation", 0) != 5], "was next"),
    ],
    ids=["scores", "champion's scores", "decision", "whom", "order", "verdict", "left out"],
)
def test_forgeries_are_found(
    run: Path, tmp_path: Path, change: Callable[[list[Record]], list[Record]], said: str
) -> None:
    report = audit(forged(run, tmp_path / "forged", change))
    assert not report.ok
    assert any(re.search(said, finding.text) for finding in report.findings), report.findings


def by_older_rules(decisions: int) -> Callable[[list[Record]], list[Record]]:
    """The records of a steady run whose first champion was never looked at again."""

    def change(records: list[Record]) -> list[Record]:
        left: list[Record] = []
        gone = 0
        for record in records:
            if isinstance(record, Rated) and (record.variant, record.purpose) == ("v0", "recheck"):
                gone += 1
                continue
            left.append(
                replace(record, evaluation=record.evaluation - gone)
                if isinstance(record, (Rated, Improved))
                else record
            )
        assert gone == 1 and isinstance(left[0], RunStarted)
        config = msgspec.json.decode(left[0].config)
        config["optimise"] |= {"decisions": decisions, "evaluations": config["optimise"]["evaluations"] - 1}
        return [replace(left[0], config=msgspec.json.encode(config, order="sorted").decode()), *left[1:]]

    return change


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("steady"), 0.0)


class TestAChampionThatWasNeverLookedAtAgain:
    def test_no_promotion_follows_from_it(self, steady: Path, tmp_path: Path) -> None:
        report = audit(forged(steady, tmp_path / "forged", by_older_rules(2)))
        assert any("v0 was evaluated 0 times more" in finding.text for finding in report.findings)

    def test_older_versions_compared_it_all_the_same(self, steady: Path, tmp_path: Path) -> None:
        report = audit(forged(steady, tmp_path / "older", by_older_rules(1)))
        assert report.ok, report.findings


def test_a_tests_size_is_that_of_the_runs_version() -> None:
    """Twelve scores of each side, where the first decision's share asks for eight: older versions took `fresh`."""
    for decisions, fresh, wrong in ((2, 12, False), (2, 8, True), (3, 12, False), (3, 8, True)):
        findings = Findings()
        watcher = Optimisation(findings)
        scores = {"v0": [float(n) for n in range(12)], "v1": [float(n) for n in range(100, 112)]}
        config = {"alpha": 0.05, "evaluations": 26, "decisions": decisions, "fresh": fresh}
        records: list[Record] = [
            started(msgspec.json.encode({"optimise": config}).decode()),
            *(rated(number, f"v{number}", "candidate", 50.0 + number) for number in range(2)),
            *(rated(2 + n, "v0", "recheck", score) for n, score in enumerate(scores["v0"])),
            *(rated(14 + n, "v1", "recheck", score) for n, score in enumerate(scores["v1"])),
            Improved(
                evaluation=25,
                candidate="v1",
                champion="v0",
                decision="promote",
                rule="permutation",
                candidate_scores=scores["v1"],
                champion_scores=scores["v0"],
                p=1 / math.comb(24, 12),
                alpha=0.05 * 10 / 110,
            ),
        ]
        for seq, record in enumerate(records):
            watcher.take(seq, record, "v0")
        assert bool(findings.listed) == wrong, findings.listed


@pytest.mark.parametrize(("unsuccessful", "size"), [(0, 8), (60, 9), (200, 10), (2000, 12)])
def test_a_smaller_share_asks_for_more_scores(unsuccessful: int, size: int) -> None:
    """What the auditor computes is what a run does."""
    level = AlphaSpending(alpha=0.05, decisions=unsuccessful).level
    assert rule.size(level, 8) == size
    watcher = Optimisation(Findings())
    watcher.take(
        0, started('{"optimise": {"alpha": 0.05, "evaluations": 9, "decisions": 3, "fresh": 8}}'), "v0"
    )
    assert watcher._scores(level) == size


def started(config: str) -> RunStarted:
    return RunStarted(
        run="r",
        seed=0,
        arm="program",
        suite="s",
        answers="any",
        skills=[],
        config=config,
        champion="v0",
        weights="",
        program="p",
        parameters=0,
    )


def rated(number: int, variant: str, purpose: str, score: float) -> Rated:
    return Rated(
        evaluation=number,
        variant=variant,
        purpose=purpose,  # type: ignore[arg-type]
        score=score,
        failure=None,
        detail="",
        metrics={},
    )


def test_more_scores_than_can_be_dealt_are_a_note() -> None:
    """Older versions took all fresh scores that there were; newer ones never take so many."""
    findings = Findings()
    watcher = Optimisation(findings)
    fresh = [float(number) for number in range(60)]

    records: list[Record] = [
        started('{"optimise": {"alpha": 0.05, "evaluations": 122}}'),
        *(rated(0, "v0", "candidate", 0.5), rated(1, "v1", "candidate", 99.0)),
        *(rated(2 + number, "v0", "recheck", score) for number, score in enumerate(fresh)),
        *(rated(62 + number, "v1", "recheck", score) for number, score in enumerate(fresh)),
        Improved(
            evaluation=121,
            candidate="v1",
            champion="v0",
            decision="archive",
            rule="permutation",
            candidate_scores=fresh,
            champion_scores=fresh,
            p=0.5,
            alpha=0.01,
        ),
    ]
    for seq, record in enumerate(records):
        watcher.take(seq, record, "v0")
    watcher.close(complete=True)
    assert [(each.kind, each.where) for each in findings.listed] == [("note", "record 123")]


def test_a_champions_scores_beyond_those_of_a_test_count_for_nothing(tmp_path: Path) -> None:
    """A policy that looks again at whom it likes, and an evaluator whose scores differ."""
    out = finished(tmp_path, 0.2, selection="hgm")
    with RunStore.open(out) as store:
        records = [entry.record for entry in store.entries()]
    looks = Counter(each.variant for each in records if isinstance(each, Rated) and each.purpose == "recheck")
    assert max(looks.values()) > 8, "somebody was looked at more often than a test takes"
    made = [each for each in records if isinstance(each, Improved)]
    assert made and all(len(each.candidate_scores) <= 8 >= len(each.champion_scores) for each in made)
    report = audit(out)
    assert report.ok, report.findings


def test_a_promotion_by_luck_is_found(tmp_path: Path) -> None:
    """The p-value on record does not follow from the scores."""
    report = audit(forged(finished(tmp_path, 0.2), tmp_path / "forged", changed(Improved, p=1e-6, alpha=0.5)))
    assert sum("recomputed" in finding.text for finding in report.findings) >= 1


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7, 1e-12, 1.0]), min_size=4, max_size=8),
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7, 1e-12, 1.0]), min_size=4, max_size=8),
    st.sampled_from([1e-300, 1e-20, 1.0, 1e20, 1e307]),
)
def test_the_p_value_is_the_rules_at_every_scale(
    ours: list[float], theirs: list[float], scale: float
) -> None:
    """Ties of decimals are ties, and scores far below 1 are no ties."""
    ours, theirs = [each * scale for each in ours], [each * scale for each in theirs]
    low, high = _permutation(ours, theirs)
    assert low <= rule.permutation_p(ours, theirs) <= high


def test_scores_far_below_one_are_told_apart() -> None:
    low, high = _permutation([2e-12] * 4, [1e-12] * 4)
    assert low == high == rule.permutation_p([2e-12] * 4, [1e-12] * 4) == rule.least_p(4)


def test_a_way_at_the_very_bar_counts_or_not() -> None:
    """A deal less than the scores on record by just the share that is a tie: rounding may put it on either side."""
    ours, theirs = [1.0 + 6e-12, 1.0, 1.0], [1.0, 1.0, 1.0]
    low, high = _permutation(ours, theirs)
    assert low == 0.5 < high == 1.0
    assert rule.permutation_p(ours, theirs) in (low, high)


def test_a_complete_test_that_promotes_is_no_reason_to_archive(tmp_path: Path) -> None:
    """The last decision, whose champion no later record tells of."""
    out = finished(tmp_path, 0.2)
    with RunStore.open(out) as store:
        records = [entry.record for entry in store.entries()]
    last = max(at for at, each in enumerate(records) if getattr(each, "decision", "") == "promote")

    def change(records: list[Record]) -> list[Record]:
        kept = [each for each in records[last + 1 :] if not isinstance(each, Improved)]
        return [*records[:last], replace(records[last], decision="archive"), *kept]

    report = audit(forged(out, tmp_path / "forged", change))
    assert any("promote follows from the scores" in each.text for each in report.findings), report.findings
