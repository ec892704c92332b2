"""Tampering: single bytes of every file of a run, whole files, and records by an attacker who recomputes every hash."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import lmdb
import msgspec
import pytest

from moevolve.auditor import audit
from moevolve.journal import seal
from moevolve.journal.store import RunStore
from moevolve.records import (
    AGAIN_STAGE,
    Ablated,
    Attempted,
    Chosen,
    CycleFinished,
    Evaluated,
    Gated,
    Interval,
    ProposerAsked,
    Record,
    RunFinished,
    RunStarted,
    Screened,
    SealedOpened,
    Timing,
    VariantAdded,
)

replace = msgspec.structs.replace

Copy = Callable[[], Path]
Change = Callable[[list[Record]], list[Record]]
Forge = Callable[[Change], Path]


def flipped(file: Path, place: int, draw: Random) -> bytes:
    """Changes one byte; returns what the file was."""
    whole = file.read_bytes()
    data = bytearray(whole)
    data[place] ^= 1 + draw.randrange(255)
    file.write_bytes(data)
    return whole


def missed(run: Path, files: Sequence[Path], count: int, seed: int) -> list[str]:
    """Changes one byte after another; returns those that an audit does not find."""
    draw = Random(seed)
    quiet = []
    for _ in range(count):
        file = draw.choice(files)
        place = draw.randrange(file.stat().st_size)
        whole = flipped(file, place, draw)
        if audit(run).ok:
            quiet.append(f"{file.relative_to(run)} at {place}")
        file.write_bytes(whole)
    return quiet


def test_a_finished_run_is_clean(finished: Path) -> None:
    report = audit(finished)
    assert report.ok and report.complete and report.state == "finished", report.findings
    assert report.findings == []
    assert report.seal.present and report.seal.intact


def test_200_single_bytes_of_journal_blobs_and_weights_are_found(copy: Copy) -> None:
    run = copy()
    journal = [run / "journal" / "data.mdb"]
    assert missed(run, journal, 100, seed=1) == []
    assert missed(run, sorted((run / "weights").iterdir()), 60, seed=2) == []
    with RunStore.open(run) as store:
        programs = {e.record.program for e in store.entries() if isinstance(e.record, VariantAdded)}
        blobs = [store.blob(name) for name in sorted(programs)]
    draw = Random(3)
    for _ in range(40):
        blob = draw.choice(blobs)
        whole = journal[0].read_bytes()
        # The long ones lie on pages of their own, in one piece.
        start = whole.find(blob[:200])
        flipped(journal[0], start + draw.randrange(200), draw)
        found = audit(run)
        assert found.seal.intact is False and found.exit_code == 1
        journal[0].write_bytes(whole)
    assert audit(run).ok


def test_single_bytes_of_every_other_file_are_found(copy: Copy) -> None:
    run = copy()
    files = [run / name for name in seal.files(run) if not name.startswith(("weights", "journal/data"))]
    assert len(files) >= 5
    assert missed(run, files, 60, seed=4) == []


def test_lock_files_hold_nothing_that_readers_do_not_put_there(copy: Copy) -> None:
    run = copy()
    with RunStore.open(run) as store:
        assert len(store) and audit(run).ok
    locks = run / "journal" / "lock.mdb"
    draw = Random(8)
    for _ in range(20):
        whole = flipped(locks, draw.randrange(72 * 64, locks.stat().st_size), draw)
        assert not audit(run).ok
        locks.write_bytes(whole)
    (run / "journal" / "writer.lock").write_bytes(b"12x       \n")
    assert not audit(run).ok


def test_no_byte_of_the_seal_can_be_changed(copy: Copy) -> None:
    run = copy()
    assert missed(run, [run / seal.SEAL], 100, seed=5) == []


def test_without_a_seal_records_blobs_and_weights_are_still_covered(copy: Copy, interrupted: Path) -> None:
    """Of a run that was killed: bytes of entries and blobs, by their hashes, wherever they lie."""
    report = audit(interrupted)
    assert report.ok and not report.complete and report.state == "unfinished", report.findings
    file = interrupted / "journal" / "data.mdb"
    with lmdb.open(str(file.parent), readonly=True, lock=False, max_dbs=8) as environment:
        values = []
        for name in (b"journal", b"blobs"):
            database = environment.open_db(name, create=False)
            with environment.begin(db=database) as transaction:
                values += [bytes(value) for _, value in transaction.cursor()]
    draw = Random(6)
    for _ in range(60):
        value = draw.choice(values)
        at = draw.randrange(len(value))
        if value[:32] and 32 <= at < 36 + int.from_bytes(value[32:36], "little") and len(value) < 4000:
            # A timing lies beside the chain.
            continue
        whole = file.read_bytes()
        start = whole.find(value[:300])
        while start >= 0:
            if at < 300:
                data = bytearray(file.read_bytes())
                data[start + at] ^= 0x55
                file.write_bytes(data)
            start = whole.find(value[:300], start + 1)
        assert at >= 300 or not audit(interrupted).ok
        file.write_bytes(whole)
    [weights, *_] = sorted((interrupted / "weights").glob("*.safetensors"))
    for _ in range(10):
        whole = flipped(weights, draw.randrange(weights.stat().st_size), draw)
        assert not audit(interrupted).ok
        weights.write_bytes(whole)


@pytest.mark.parametrize(
    "name",
    ["run.toml", "program/solve.py", "SEAL", "weights", "journal/state"],
)
def test_a_missing_file_is_found(name: str, copy: Copy) -> None:
    run = copy()
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert not audit(run).ok


@pytest.mark.parametrize("name", ["weights/other.safetensors", "program/helper.py", "journal/data.mdb.old"])
def test_a_file_too_many_is_found(name: str, copy: Copy) -> None:
    run = copy()
    (run / name).write_bytes(b"x")
    assert not audit(run).ok


def test_readers_and_a_resume_leave_a_run_clean(copy: Copy) -> None:
    from moevolve.loop.run import resume
    from moevolve.report.summary import figures_of

    run = copy()
    with RunStore.open(run) as store:
        figures_of(store)
    resume(run)
    assert audit(run).ok


def test_whoever_goes_on_with_a_run_breaks_its_seal(copy: Copy) -> None:
    run = copy()
    with RunStore.open(run, write=True) as store:
        store.put("notes", "a", b"b")
    report = audit(run)
    assert not report.seal.present
    assert {finding.check for finding in report.findings if finding.kind == "mismatch"} == {"seal"}


# ---------------------------------------------------------------- an attacker who recomputes every hash


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


def test_records_after_the_end_are_found(copy: Copy) -> None:
    run = copy()
    with RunStore.open(run, write=True) as store:
        last = store.entries(len(store) - 1)[0].record
        store.append([last], Timing(at=99.0))
        seal.write(store)
    assert not audit(run).ok


def test_a_seal_written_again_hides_no_change_of_a_record(copy: Copy) -> None:
    run = copy()
    file = run / "journal" / "data.mdb"
    data = bytearray(file.read_bytes())
    place = data.rfind(b"run_finished")
    data[place] ^= 1
    file.write_bytes(data)
    text = (run / seal.SEAL).read_text()
    old = next(line for line in text.splitlines() if line.endswith("journal/data.mdb"))
    text = text.replace(old, f"{hashlib.sha256(data).hexdigest()}  journal/data.mdb")
    body = text[: text.rindex("# seal ")]
    (run / seal.SEAL).write_text(f"{body}# seal {hashlib.sha256(body.encode()).hexdigest()}\n")
    report = audit(run)
    assert report.seal.intact and not report.ok
