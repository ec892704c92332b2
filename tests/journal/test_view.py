"""The view of a run: fates, lineage, like splits, tokens, levels; whatever every reader shows."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_run import MemoryRun, read_entries
from older_run import write_older_run
from synthetic_journal import CYCLE_TOKENS, DIRECT_TOKENS, GATE_TOKENS, SEED_TOKENS, entries, records

from moevolve.errors import UsageError
from moevolve.journal.kinds import FOLDS, SENTENCES
from moevolve.journal.reader import PAGE, RunReader, read
from moevolve.journal.store import RunStore
from moevolve.journal.variants import OPERATORS, OTHERS, Variants
from moevolve.journal.view import CHECKS, RunView, describe
from moevolve.records import (
    Chosen,
    Controlled,
    Entry,
    Evaluated,
    Gated,
    Guarded,
    Record,
    RolledBack,
    RunStarted,
    Screened,
    State,
    Tally,
    Timing,
    VariantAdded,
)

HOSTILE = "\x1b[2J\x1b]0;owned\x07a\u202eb\u200bc\nd"


def view_of(found: list[Entry]) -> RunView:
    return RunView().fold(found)


def fates(view: RunView) -> dict[str, str]:
    return {view.variants.name(row): view.variants.fate(row) for row in range(len(view.variants))}


def test_every_kind_of_record_is_said_and_folded() -> None:
    assert set(get_args(Record)) == SENTENCES.keys() == FOLDS.keys()


def test_a_sentence_is_one_harmless_line_whatever_programs_wrote() -> None:
    for record in records():
        fields = {
            name: HOSTILE
            for name in ("run", "suite", "operator", "summary", "reason", "variant", "detail")
            if isinstance(getattr(record, name, None), str)
        }
        text, _ = describe(msgspec.structs.replace(record, **fields))
        assert text.isprintable() and "\u202e" not in text and "\u200b" not in text and "owned" not in text


def test_the_champions_weights_and_program_are_followed_to_where_they_come_from() -> None:
    view = view_of(entries(records(cycles=2)))
    row = view.variants.row(view.champion)
    assert row is not None
    assert [view.variants.name(each) for each in view.variants.ancestry(row)] == [
        "v0000",
        "v0001",
        "v0002",
        "v0003",
    ]
    both = [
        VariantAdded(
            variant=name,
            parents=parents,
            cycle=0,
            level="program",
            weights="",
            program="",
            operator="",
            summary="",
            score=None,
        )
        for name, parents in (("v0", []), ("v1", ["v0"]), ("v2", ["v0"]), ("v3", ["v2", "v1"]))
    ]
    variants = Variants()
    for record in both:
        variants.add(record, 0)
    assert variants.ancestry(3) == [0, 1, 2, 3]
    assert list(variants.tree()) == [(0, 0), (1, 1), (2, 1), (3, 2)]


def test_the_choice_after_screening_is_each_candidates_fate() -> None:
    found = entries(records(cycles=1))
    screen = next(entry for entry in found if isinstance(entry.record, Screened))
    assert isinstance(screen.record, Screened)
    name = screen.record.variant
    assert fates(view_of(found[: screen.seq + 1]))[name] == "screened"
    for chosen, fate in (
        (Chosen(cycle=1, chosen=name, not_chosen=[], unscreened=[], tokens=1), "chosen"),
        (Chosen(cycle=1, chosen=None, not_chosen=[name], unscreened=[], tokens=1), "not chosen"),
        (Chosen(cycle=1, chosen=None, not_chosen=[], unscreened=[name], tokens=1), "not screened"),
    ):
        cut = [
            *found[: screen.seq + 1],
            Entry(seq=screen.seq + 1, record=chosen, timing=Timing(at=0), hash=""),
        ]
        assert fates(view_of(cut))[name] == fate
    failed = msgspec.structs.replace(screen.record, passed=False)
    cut = [*found[: screen.seq], said_instead(screen, failed)]
    assert fates(view_of(cut))[name] == "screened out"
    assert read_entries(cut).archive()[name].status == "rejected"


def said_instead(entry: Entry, record: Record) -> Entry:
    return msgspec.structs.replace(entry, record=record)


def test_the_archive_holds_every_variant_with_what_became_of_it() -> None:
    archive = read_entries(entries(records(cycles=2))).archive()
    assert {v.id: v.status for v in archive} == {
        "v0000": "kept",
        "v0001": "kept",
        "v0002": "kept",
        "v0003": "champion",
        "v0004": "kept",
    }
    found = entries(records(cycles=1))
    gate = next(entry.seq for entry in found if isinstance(entry.record, Gated))
    assert read_entries(found[:gate]).archive()["v0001"].status == "candidate"


def test_an_older_runs_fates_are_told_as_its_loop_decided(tmp_path: Path) -> None:
    write_older_run(tmp_path / "older")
    with RunStore.open(tmp_path / "older") as store:
        reader = read(store)
    view = reader.view
    assert fates(view) == {
        "v0000": "seed",
        "v0001": "kept",
        "v0002": "promoted",
        "v0003": "not chosen",
        "v0004": "not chosen",
        "v0005": "not chosen",
        "v0006": "screened out",
        "v0007": "screened out",
        "v0008": "screened out",
        "v0009": "not chosen",
    }
    assert view.variants.screening(9) == 0.375
    assert view.point("dev") is not None and view.dev_gain is None


def test_a_rollback_makes_an_earlier_champion_the_champion_and_is_no_promotion() -> None:
    found = entries(records(cycles=1))
    before = view_of(found)
    back = RolledBack(cycle=1, champion="v0000", before=before.champion, reason="asked for")
    after = view_of([*found, Entry(seq=len(found), record=back, timing=Timing(at=0.0), hash="")])
    assert (after.champion, after.rollbacks) == ("v0000", 1)
    assert after.decisions == before.decisions and len(after.gates) == len(before.gates)
    assert fates(after)[before.champion] == "rolled back"
    assert list(after.champion_history) == [*before.champion_history, "v0000"]


def test_gains_are_between_like_splits_only() -> None:
    found = entries(records(cycles=2, gain=0.1))
    scored = [entry.seq for entry in found if isinstance(entry.record, Evaluated)]
    early = view_of(found[: scored[1] + 1])
    assert early.sealed_gain is None and early.dev_gain is None
    running = view_of(found[: scored[2] + 1])
    assert running.sealed_gain is None
    assert running.dev_gain is not None and running.dev_gain.gain == pytest.approx(0.5 - 0.38)
    skill = running.skills["text/reverse"]
    assert (skill.split, skill.before, skill.now) == ("dev", 0.38, 0.5)
    ended = view_of(found)
    assert ended.sealed_gain is not None and ended.sealed_gain.gain == pytest.approx(0.2)
    skill = ended.skills["text/reverse"]
    assert (skill.split, skill.before, skill.now) == ("sealed", 0.4, pytest.approx(0.6))


def test_a_sealed_gain_is_paired_where_outcomes_are_on_record() -> None:
    def with_outcomes(record: Record) -> Record:
        if isinstance(record, Evaluated) and record.split == "sealed":
            ends = [1.0] * 40 + [0.0] * 60 if record.when == "initial" else [1.0] * 60 + [0.0] * 40
            return msgspec.structs.replace(record, outcomes=ends)
        return record

    apart = view_of(entries(records(gain=0.1))).sealed_gain
    paired = view_of(entries([with_outcomes(record) for record in records(gain=0.1)])).sealed_gain
    assert apart is not None and paired is not None
    assert paired.gain == pytest.approx(0.2)
    assert paired.interval != apart.interval


def test_tokens_go_on_counting_after_the_newest_cycle() -> None:
    whole = entries(records(cycles=2, finished=False))
    second = next(e.seq for e in whole if getattr(e.record, "stage", "") == "direct" and e.record.cycle == 2)  # type: ignore[union-attr]
    assert view_of(whole[: second + 1]).generated == CYCLE_TOKENS + DIRECT_TOKENS
    gate = next(e.seq for e in whole if isinstance(e.record, Gated) and e.record.cycle == 2)
    assert view_of(whole[: gate + 1]).generated == CYCLE_TOKENS + DIRECT_TOKENS + GATE_TOKENS
    assert view_of(entries(records(cycles=2))).generated == 2 * CYCLE_TOKENS + SEED_TOKENS


def test_no_level_beyond_those_tried_is_claimed() -> None:
    view = view_of(entries(records())[:1])
    view.count([Tally(skill="number/add", level=level, attempts=40, successes=40) for level in range(1, 7)])
    assert view.skills["number/add"].level == (6, (6, 6))


def test_a_level_has_an_interval_that_tries_of_older_champions_widen() -> None:
    view = view_of(entries(records(cycles=2)))
    level, (low, high) = view.skills["number/add"].level or (0, (0, 0))
    assert low <= level <= high and level == 6
    for _ in range(3):
        view.fade()
    _, wider = view.skills["number/add"].level or (0, (0, 0))
    assert wider[1] - wider[0] > high - low
    assert view_of(entries(records())[:1]).skills["number/add"].level is None


@given(st.integers(1, 70), st.data())
def test_a_view_is_the_same_in_however_many_pieces_it_was_read(length: int, data: st.DataObject) -> None:
    found = entries(records(cycles=3))[:length]
    run = MemoryRun(found[: data.draw(st.integers(0, length))])
    reader = RunReader(run)
    reader.refresh()
    run.written = found
    reader.refresh()
    whole = view_of(found)
    for name in (
        "champion",
        "cycle",
        "entries",
        "generated",
        "trained",
        "lessons",
        "curve",
        "decisions",
        "skills",
    ):
        assert getattr(reader.view, name) == getattr(whole, name)
    assert fates(reader.view) == fates(whole)


@pytest.mark.parametrize(
    ("said", "alive", "status"),
    [
        (None, True, "running"),
        ("running", True, "running"),
        ("running", False, "stopped"),
        ("paused", True, "paused"),
        ("paused", False, "paused"),
        ("failed", False, "failed"),
        ("stopped", True, "running"),
        ("stopped", False, "stopped"),
        ("finished", False, "stopped"),
    ],
)
def test_status_believes_no_dead_writer(said: str | None, alive: bool, status: str) -> None:
    state = None
    if said:
        state = State(status=said, pid=1, stage="", done=0.5, seconds=1.0, eta=None)  # type: ignore[arg-type]
    assert read_entries(entries(records(finished=False)), state, alive=alive).status == status
    # One that goes on beyond its end says so before it has put that on record.
    ended = "running" if alive and said == "running" else "finished"
    assert read_entries(entries(records()), state, alive=alive).status == ended


def test_entries_are_read_on_demand_and_a_page_that_has_grown_is_read_again() -> None:
    found = entries(records(cycles=8))
    run = MemoryRun(found[:3])
    reader = read(run)
    assert reader.entry(2) == found[2]
    run.written = found
    reader.refresh()
    assert reader.entry(len(found) - 1) == found[-1]
    assert len(found) < PAGE


def test_a_run_without_a_record_says_so() -> None:
    with pytest.raises(UsageError, match="holds no record yet"):
        _ = read_entries([]).started
    assert isinstance(read_entries(entries(records())).started, RunStarted)


def test_variants_are_found_by_name_whatever_they_are_called() -> None:
    variants = Variants()
    names = ["v0000", "seed", "v0002", "v3", "v0004", "v01", "v\u0663"]
    template = next(record for record in records() if isinstance(record, VariantAdded))
    for seq, name in enumerate(names):
        assert variants.add(msgspec.structs.replace(template, variant=name, parents=[]), seq) == seq
    assert [variants.row(name) for name in names] == list(range(len(names)))
    assert [variants.name(row) for row in range(len(names))] == names
    assert variants.row("v0001") is None and variants.row("v0009") is None


def control(command: str, variant: str = "", *, done: bool = True, **more: object) -> Controlled:
    return Controlled(cycle=1, request=1, command=command, variant=variant, done=done, champion="", **more)  # type: ignore[arg-type]


def test_a_held_candidate_waits_until_a_person_has_spoken() -> None:
    found = entries(records(cycles=1))
    index, gate = next((i, e) for i, e in enumerate(found) if isinstance(e.record, Gated))
    assert isinstance(gate.record, Gated) and gate.record.decision == "promote"
    name, level = gate.record.candidate, gate.record.level
    held = [*found[:index], said_instead(gate, msgspec.structs.replace(gate.record, decision="hold"))]

    def after(record: Controlled) -> RunView:
        return view_of([*held, Entry(seq=index + 1, record=record, timing=Timing(at=0), hash="")])

    before = view_of(held)
    assert before.waiting == [name] and fates(before)[name] == "waiting" and before.champion == "v0000"
    assert before.decisions[level] == [0, 1]
    approved = after(control("approve", name, level=level))
    assert approved.waiting == [] and approved.champion == name and fates(approved)[name] == "promoted"
    assert approved.decisions[level] == [1, 1] and approved.promotions == [(1, level)]
    rejected = after(control("reject", name))
    assert rejected.waiting == [] and rejected.champion == "v0000" and fates(rejected)[name] == "refused"
    late = after(control("approve", name, done=False, level=level, detail="another is the champion now"))
    assert late.waiting == [name] and late.champion == "v0000" and late.requests == 1
    words, tone = describe(control("approve", name, done=False, detail="gone"))
    assert words == f"Not done: approved by a person: {name}; gone" and tone == "warn"


def test_what_a_guard_vetoed_is_nobodys_champion_and_its_alarms_are_counted() -> None:
    found = entries(records(cycles=1))
    index, gate = next((i, e) for i, e in enumerate(found) if isinstance(e.record, Gated))
    assert isinstance(gate.record, Gated)
    name = gate.record.candidate
    alarm = Guarded(cycle=1, guard="canaries", checked=1, vetoed=1, detail="9 of 48", alarm=True)
    veto = msgspec.structs.replace(gate.record, decision="veto", guards=["canaries"])
    cut = [
        *found[:index],
        said_instead(gate, alarm),
        Entry(seq=index + 1, record=veto, timing=gate.timing, hash=""),
    ]
    view = view_of(cut)
    assert view.champion == "v0000" and fates(view)[name] == "vetoed"
    assert view.guards["canaries"] == (1, 1, 1)
    assert read_entries(cut).archive()[name].status == "vetoed"
    assert describe(alarm)[0] == "Guard canaries ALARM, vetoed 1 of 1: 9 of 48"
    assert "vetoed by canaries" in describe(veto)[0]


def added(number: int, operator: str) -> VariantAdded:
    return VariantAdded(
        variant=f"v{number:04d}",
        parents=[],
        cycle=1,
        level="program",
        weights="w",
        program="p",
        operator=operator,
        summary="",
        score=None,
    )


def test_a_variant_has_the_operator_that_made_it() -> None:
    variants = Variants()
    for number, operator in enumerate(("chain", "split\x1b[2J", "chain")):
        variants.add(added(number, operator), number)
    assert [variants.operator(row) for row in range(3)] == ["chain", "split", "chain"]


def test_very_many_operators_stay_bounded() -> None:
    variants = Variants()
    for number in range(5000):
        variants.add(added(number, f"operator {number}\x1b[2J"), number)
    names = {variants.operator(row) for row in range(5000)}
    assert len(names) == OPERATORS + 1 and OTHERS in names
    assert len(variants._codes) <= 3 * OPERATORS


def test_time_is_shared_out_by_what_it_led_to() -> None:
    view = view_of(entries(records()))
    assert sum(view.took.values()) == pytest.approx(view.seconds)
    assert len(view.opened) == view.cycles_started
    assert all(len(seqs) <= CHECKS for seqs in view.checks.values())


def test_each_change_of_the_champion_has_its_record() -> None:
    found = entries(records())
    view = view_of(found)
    assert len(view.changes) == len(view.champion_history) - 1
    kinds = {type(found[seq].record) for seq in view.changes}
    assert kinds <= {Gated, Controlled, RolledBack}


def test_what_proposers_came_to_forgets_candidates_with_their_cycle() -> None:
    found = [record for record in records(cycles=3) if not isinstance(record, Gated)]
    view = view_of(entries(found))
    assert view.accounts._whose == {}
    assert sum(account.made for account in view.accounts.operators.values()) > 0
