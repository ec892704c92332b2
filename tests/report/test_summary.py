"""What `show --json` is made of: the contract's fields, before, during and after a run."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import optimised_run as optimised
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_run import MemoryRun, summarised
from older_run import write_older_run
from promotion import gated, variant
from synthetic_journal import SKILLS, entries, records

from moevolve.journal.store import RunStore
from moevolve.records import Evaluated, Gated, Metered, RunStarted, Sandbox, State
from moevolve.report import beside, terminal
from moevolve.report.optimisation import figures_of
from moevolve.report.summary import summary_of

CONTRACT = {
    "run": str,
    "status": str,
    "seed": int,
    "arm": str,
    "suite": str,
    "answers": str,
    "cycles": int,
    "seconds": float,
    "score": {
        "initial": float,
        "final": float,
        "initial_ci": list,
        "final_ci": list,
        "gain": float,
        "gain_ci": list,
        "n": int,
    },
    "skills": dict,
    "promotions": {
        "weights": {"proposed": int, "accepted": int},
        "program": {"proposed": int, "accepted": int},
    },
    "guards": dict,
    "sandbox": {"layers": list, "missing": list},
    "champion": str,
    "variants": int,
    "memory": {"lessons": int},
    "tokens": {"generated": int, "trained": int},
    "journal": {"entries": int, "head": str},
}


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
    run = MemoryRun(entries(records()))
    run.walls = Sandbox(layers=["landlock"], missing=["seccomp"])
    shown = msgspec.json.decode(msgspec.json.encode(figures_of(run)))
    assert has(CONTRACT, shown)
    assert set(shown["skills"]) == set(SKILLS)
    assert {"level", "level_ci", "initial", "final", "attempts"} <= shown["skills"]["text/reverse"].keys()
    assert shown["guards"] == {"provenance": {"checked": 1000, "vetoed": 1, "alarms": 0}}
    assert "false_promotion_bound" not in shown


def test_a_run_on_an_evaluator_has_the_contracts_fields_as_far_as_they_were_measured() -> None:
    shown = msgspec.json.decode(msgspec.json.encode(figures_of(optimised.recorded())))
    contract = CONTRACT | {"score": {"initial": float, "final": float}}
    assert has(contract, shown)
    assert (shown["arm"], shown["suite"], shown["answers"]) == ("program", "valley", "any")
    first, last = shown["initial"], shown["final"]
    assert shown["score"] == {"initial": first, "final": last, "gain": last - first}
    assert shown["promotions"] == {
        "weights": {"proposed": 0, "accepted": 0},
        "program": {"proposed": optimised.EVALUATIONS - 1, "accepted": len(optimised.PROMOTED)},
    }
    assert (shown["variants"], shown["skills"], shown["guards"]) == (optimised.EVALUATIONS, {}, {})


def test_the_figures_of_a_run_are_those_that_show_prints() -> None:
    run = MemoryRun(entries(records()))
    assert figures_of(run) == msgspec.to_builtins(summary_of(run))
    assert figures_of(MemoryRun()) == {}


def test_the_bound_on_false_promotions_is_what_the_gate_has_spent() -> None:
    spent = iter((0.001, 0.002, 0.004, 0.005))
    found = [
        msgspec.structs.replace(record, spent=next(spent)) if isinstance(record, Gated) else record
        for record in records()
    ]
    assert summarised(entries(found)).false_promotion_bound == 0.005


def test_a_finished_run_scores_on_the_sealed_split_before_and_after() -> None:
    summary = summarised(entries(records(cycles=2, gain=0.1)))
    assert (summary.status, summary.cycles) == ("finished", 2)
    assert (summary.score.initial, summary.score.final, summary.score.n) == (0.4, 0.6, 1536)
    assert (summary.score.initial_ci, summary.score.final_ci) == ((0.37, 0.43), (0.57, 0.63))
    assert summary.score.gain == 0.2
    assert summary.score.gain_ci is not None and summary.score.gain_ci[0] > 0
    skill = summary.skills["number/add"]
    assert (skill.attempts, skill.initial_level, skill.level) == (80, 4, 6)
    assert skill.level_ci is not None and skill.level_ci[0] <= 6 <= skill.level_ci[1]


def test_promotions_count_what_the_gate_saw_and_let_through() -> None:
    promotions = summarised(entries(records(cycles=4))).promotions
    assert (promotions.weights.proposed, promotions.weights.accepted) == (4, 4)
    assert (promotions.program.proposed, promotions.program.accepted) == (4, 2)


def test_gate_decisions_carry_what_was_decided_about() -> None:
    gates = summarised(entries(records(cycles=2))).gates
    assert [(gate.level, gate.decision, gate.operator) for gate in gates] == [
        ("weights", "promote", "distill"),
        ("program", "promote", "vote"),
        ("weights", "promote", "distill"),
        ("program", "archive", "vote"),
    ]
    assert gates[-1].vetoes == ["number/add"]


def test_an_unfinished_run_has_no_final_score_and_its_gain_is_of_the_dev_split() -> None:
    found = entries(records(cycles=2, gain=0.1, finished=False))
    summary = summarised(found, state("running"), alive=True)
    shown = msgspec.to_builtins(summary)
    assert shown["score"] == {"initial": 0.4, "initial_ci": (0.37, 0.43), "n": 1536}
    assert (summary.dev.initial, summary.dev.final, summary.dev.gain) == (0.38, 0.6, 0.22)
    assert "final" not in shown["skills"]["text/reverse"]
    assert summary.seconds == 500.0


def test_what_was_not_measured_is_absent_and_blank_never_an_old_figure() -> None:
    found = entries(records())
    shown = msgspec.to_builtins(summarised(found[:1]))
    assert shown["score"] == {} and shown["dev"] == {}
    assert set(shown["skills"]["text/reverse"]) == {"attempts"}
    begun = summarised(found[:3], state("stopped"))
    assert (begun.score.initial, begun.score.final, begun.score.gain) == (0.4, None, None)
    out = io.StringIO()
    terminal.console(out).print(terminal.scores(begun), beside.comparison({"run": begun}))
    assert "+0.000" not in out.getvalue() and "None" not in out.getvalue()
    assert out.getvalue().count("0.400") == 2


def test_a_run_of_the_older_version_is_summarised_without_what_it_did_not_record(tmp_path: Path) -> None:
    head = write_older_run(tmp_path / "older")
    with RunStore.open(tmp_path / "older") as store:
        shown = figures_of(store)
    assert (shown["journal"]["head"], shown["status"], shown["champion"]) == (head, "finished", "v0002")
    assert shown["score"]["gain"] == pytest.approx(
        shown["score"]["final"] - shown["score"]["initial"], abs=1e-4
    )
    assert "gain" not in shown["dev"] and "sandbox" not in shown
    assert shown["promotions"]["program"] == {"proposed": 8, "accepted": 1}


def test_the_gain_is_paired_over_the_sealed_tasks() -> None:
    def with_outcomes(record):  # type: ignore[no-untyped-def]
        if isinstance(record, Evaluated) and record.split == "sealed":
            right = 768 if record.when == "final" else 576
            return msgspec.structs.replace(record, outcomes=[1.0] * right + [0.0] * (1536 - right))
        return record

    score = summarised(entries([with_outcomes(record) for record in records()])).score
    assert score.gain == pytest.approx(192 / 1536, abs=1e-4)
    assert score.gain_ci is not None and score.gain_ci[1] - score.gain_ci[0] < 0.034


def test_an_empty_journal_has_no_summary() -> None:
    assert figures_of(MemoryRun()) == {}


@given(st.integers(1, 60))
def test_every_prefix_of_a_journal_has_a_summary(length: int) -> None:
    summary = summarised(entries(records(cycles=3))[:length])
    assert summary.journal.entries <= length
    assert summary.promotions.program.accepted <= summary.promotions.program.proposed
    assert all(figures.initial is None or 0 <= figures.initial <= 1 for figures in summary.skills.values())


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
    summary = summarised(entries(found))
    assert summary.cost is not None
    assert (summary.cost.requests, summary.cost.reused, summary.cost.calls) == (6, 2, 10)
    assert summary.cost.money == "0.0000003"
    assert (summary.cost.faults, summary.cost.failures) == ({"timeout": 4}, {"timeout": 2})
    assert [(stage.stage, stage.cost) for stage in summary.cost.stages] == [
        ("program", "0.0000001"),
        ("gate", "0.0000002"),
    ]
    shown = io.StringIO()
    terminal.console(shown).print(terminal.show(summary))
    assert "cost EUR" in shown.getvalue() and "0.0000003" in shown.getvalue()


def test_a_run_on_weights_has_no_bill() -> None:
    assert summarised(entries(records())).cost is None


def test_kinds_of_edits_that_were_accepted_are_named_with_their_files() -> None:
    programs = {
        "one": {"improve.py": "a", "solve.py": "a"},
        "two": {"improve.py": "b", "solve.py": "a"},
        "three": {"improve.py": "b", "solve.py": "b"},
        "four": {"improve.py": "b", "solve.py": "c", "vote.py": "a"},
        "five": {"improve.py": "c", "solve.py": "a"},
    }
    made = [
        ("meta", "two", "v0000"),
        ("vote", "three", "v0001"),
        ("vote", "four", "v0002"),
        ("lost", "five", "v0000"),
        ("old", "five", "v0000"),
    ]
    begun = [record for record in records() if isinstance(record, RunStarted)]
    run = MemoryRun(
        entries(
            [
                *begun,
                variant("v0000", "w", "one", level="seed", parents=[]),
                *(
                    variant(
                        f"v{number:04d}", "w", program, level="program", operator=operator, parents=[parent]
                    )
                    for number, (operator, program, parent) in enumerate(made, 1)
                ),
                gated("v0005", level="program"),
                gated("v0003", level="program"),
            ]
        )
    )
    run.blobs = {name: msgspec.msgpack.encode(files) for name, files in programs.items()}
    summary = summary_of(run)
    assert summary is not None
    assert msgspec.to_builtins(summary.accepted) == [
        {"operator": "vote", "edits": 2, "files": ["solve.py", "vote.py"]},
        {"operator": "meta", "edits": 1, "files": ["improve.py"]},
        {"operator": "old", "edits": 1, "files": ["improve.py"]},
    ]
    said = (
        "Accepted edits, of 3 kinds: vote 2 in solve.py, vote.py; meta 1 in improve.py; old 1 in improve.py"
    )
    shown = io.StringIO()
    terminal.console(shown).print(terminal.show(summary))
    assert said in " ".join(shown.getvalue().split())
