"""What `show --json` is made of: the contract's fields, before, during and after a run."""

from __future__ import annotations

import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_journal import CYCLE_TOKENS, DIRECT_TOKENS, SEED_TOKENS, SKILLS, entries, records

from moevolve.records import Entry, Interval, Metered, State
from moevolve.report import terminal
from moevolve.report.interval import gain_interval
from moevolve.report.summary import fold, summarise

CONTRACT = {
    "run": str,
    "status": str,
    "seed": int,
    "arm": str,
    "cycles": int,
    "seconds": float,
    "score": {"initial": float, "final": float, "initial_ci": list, "final_ci": list, "n": int},
    "skills": dict,
    "promotions": {
        "weights": {"proposed": int, "accepted": int},
        "program": {"proposed": int, "accepted": int},
    },
    "guards": dict,
    "champion": str,
    "variants": int,
    "memory": {"lessons": int},
    "tokens": {"generated": int, "trained": int},
    "journal": {"entries": int, "head": str},
}


class Recorded:
    """A run that is only entries and a state."""

    def __init__(self, found: list[Entry], state: State | None = None, alive: bool = False) -> None:
        self._found, self._state, self._alive = found, state, alive

    def entries(self, start: int = 0, limit: int | None = None) -> list[Entry]:
        return self._found[start:] if limit is None else self._found[start : start + limit]

    def state(self) -> State | None:
        return self._state

    def writer_alive(self) -> bool:
        return self._alive


def state(status: str, seconds: float = 500.0) -> State:
    return State(status=status, pid=1, stage="gate, weights", done=0.5, seconds=seconds, eta=None)  # type: ignore[arg-type]


def has(shape: object, value: object) -> bool:
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            key in value and has(kind, value[key]) for key, kind in shape.items()
        )
    assert isinstance(shape, type)
    return isinstance(value, shape)


def test_json_has_every_field_of_the_contract() -> None:
    shown = msgspec.json.decode(msgspec.json.encode(summarise(Recorded(entries(records())))))
    assert has(CONTRACT, shown)
    assert set(shown["skills"]) == set(SKILLS)
    assert {"level", "initial", "final", "attempts"} <= shown["skills"]["text/reverse"].keys()
    assert shown["guards"] == {"provenance": {"checked": 1000, "vetoed": 1}}


def test_a_finished_run_scores_on_the_sealed_split_before_and_after() -> None:
    summary = fold(entries(records(cycles=2, gain=0.1)))
    assert (summary.status, summary.cycles) == ("finished", 2)
    assert (summary.score.initial, summary.score.final, summary.score.n) == (0.4, 0.6, 1536)
    assert (summary.score.initial_ci, summary.score.final_ci) == ((0.37, 0.43), (0.57, 0.63))
    assert summary.score.final_split == "sealed"
    assert summary.score.gain_ci is not None and summary.score.gain_ci[0] > 0
    assert summary.skills["number/add"].attempts == 80
    assert (summary.skills["number/add"].initial_level, summary.skills["number/add"].level) == (4, 6)


def test_promotions_count_what_the_gate_saw_and_let_through() -> None:
    promotions = fold(entries(records(cycles=4))).promotions
    assert (promotions.weights.proposed, promotions.weights.accepted) == (4, 4)
    assert (promotions.program.proposed, promotions.program.accepted) == (4, 2)


def test_gate_decisions_carry_what_was_decided_about() -> None:
    gates = fold(entries(records(cycles=2))).gates
    assert [(gate.level, gate.decision, gate.operator) for gate in gates] == [
        ("weights", "promote", "distill"),
        ("program", "promote", "vote"),
        ("weights", "promote", "distill"),
        ("program", "archive", "vote"),
    ]
    assert gates[-1].vetoes == ["number/add"]


def test_an_unfinished_runs_final_score_is_the_newest_on_the_dev_split() -> None:
    found = entries(records(cycles=2, gain=0.1, finished=False))
    summary = fold(found, state("running"), alive=True)
    assert (summary.status, summary.score.final, summary.score.final_split) == ("running", 0.6, "dev")
    assert summary.seconds == 500.0


def test_a_run_that_has_only_begun_is_its_own_final_score() -> None:
    summary = fold(entries(records())[:3], state("running"), alive=True)
    assert (summary.cycles, summary.score.initial, summary.score.final) == (0, 0.4, 0.4)
    assert summary.tokens.generated == SEED_TOKENS


def test_a_run_before_its_first_score_has_none() -> None:
    score = fold(entries(records())[:1]).score
    assert (score.initial, score.final, score.n) == (None, None, 0)


@pytest.mark.parametrize(
    ("said", "alive", "status"),
    [
        ("running", True, "running"),
        ("running", False, "stopped"),
        ("paused", True, "paused"),
        ("failed", False, "failed"),
        ("stopped", False, "stopped"),
        ("finished", False, "stopped"),
    ],
)
def test_status_believes_no_dead_writer(said: str, alive: bool, status: str) -> None:
    assert fold(entries(records(finished=False)), state(said), alive=alive).status == status


def test_a_finished_journal_is_finished_whatever_was_said_last() -> None:
    assert fold(entries(records()), state("running")).status == "finished"


def test_tokens_go_on_counting_after_the_newest_cycle() -> None:
    whole = entries(records(cycles=2, finished=False))
    second = next(e.seq for e in whole if getattr(e.record, "stage", "") == "direct" and e.record.cycle == 2)  # type: ignore[union-attr]
    assert fold(whole[: second + 1]).tokens.generated == CYCLE_TOKENS + DIRECT_TOKENS
    assert fold(entries(records(cycles=2))).tokens.generated == 2 * CYCLE_TOKENS + SEED_TOKENS


def test_an_empty_journal_has_no_summary() -> None:
    assert summarise(Recorded([])) == {}


@given(st.integers(1, 60))
def test_every_prefix_of_a_journal_folds(length: int) -> None:
    summary = fold(entries(records(cycles=3))[:length])
    assert summary.journal.entries <= length
    assert summary.promotions.program.accepted <= summary.promotions.program.proposed
    assert all(figures.initial is None or 0 <= figures.initial <= 1 for figures in summary.skills.values())


unit = st.floats(0, 1)


@given(st.lists(unit, min_size=3, max_size=3), st.lists(unit, min_size=3, max_size=3))
def test_the_gains_interval_holds_the_gain_and_is_antisymmetric(
    first: list[float], second: list[float]
) -> None:
    (a, b, c), (x, y, z) = sorted(first), sorted(second)
    before, after = Interval(mean=b, low=a, high=c, n=9), Interval(mean=y, low=x, high=z, n=9)
    low, high = gain_interval(before, after)
    assert low <= y - b + 1e-12 and y - b <= high + 1e-12
    back = gain_interval(after, before)
    assert back == pytest.approx((-high, -low))


def test_a_servers_bills_add_up_exactly() -> None:
    found = list(records())
    bill = Metered(
        cycle=1,
        stage="program",
        requests=3,
        reused=1,
        calls=5,
        faults={"timeout": 2},
        failures={"timeout": 1},
        prompt_tokens=10,
        cached_tokens=4,
        completion_tokens=6,
        unmetered=0,
        cost="0.0000001",
        currency="EUR",
        exchanges="",
    )
    found[-1:-1] = [bill, msgspec.structs.replace(bill, stage="gate v0001", cost="0.0000002")]
    summary = fold(entries(found), None, alive=False)
    assert summary.cost is not None
    assert (summary.cost.requests, summary.cost.reused, summary.cost.calls) == (6, 2, 10)
    assert summary.cost.money == "0.0000003"
    assert (summary.cost.faults, summary.cost.failures) == ({"timeout": 4}, {"timeout": 2})
    assert [stage.stage for stage in summary.cost.stages] == ["program", "gate v0001"]
    shown = io.StringIO()
    terminal.console(shown).print(terminal.show(summary))
    assert "cost EUR" in shown.getvalue() and "0.0000003" in shown.getvalue()


def test_a_run_on_weights_has_no_bill() -> None:
    assert fold(entries(records()), None, alive=False).cost is None
