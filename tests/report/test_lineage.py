"""The archive as a journal tells it."""

from __future__ import annotations

from synthetic_journal import entries, records

from moevolve.records import Entry, Gated, Screened
from moevolve.report.lineage import archive_of, lineage


def test_the_archive_holds_every_variant_with_what_became_of_it() -> None:
    archive = archive_of(entries(records(cycles=2)))
    assert {v.id: v.status for v in archive} == {
        "v0000": "kept",
        "v0001": "kept",
        "v0002": "kept",
        "v0003": "champion",
        "v0004": "kept",
    }
    assert [variant.id for variant in archive.lineage("v0003")] == ["v0000", "v0001", "v0002", "v0003"]


def test_before_its_gate_a_variant_is_a_candidate() -> None:
    found = entries(records(cycles=1))
    gate = next(entry.seq for entry in found if isinstance(entry.record, Gated))
    assert archive_of(found[:gate])["v0001"].status == "candidate"


def test_what_the_screen_or_the_gate_turned_down_is_rejected() -> None:
    found = entries(records(cycles=1))
    screen = next(entry for entry in found if isinstance(entry.record, Screened))
    assert isinstance(screen.record, Screened)
    failed = Screened(cycle=1, variant=screen.record.variant, score=0.4, baseline=0.5, n=96, passed=False)
    cut = [*found[: screen.seq], Entry(seq=screen.seq, record=failed, timing=screen.timing, hash="")]
    assert archive_of(cut)[failed.variant].status == "rejected"


def test_the_tree_is_read_from_the_top_with_the_champions_line_marked() -> None:
    rows = lineage(entries(records(cycles=2)))
    assert [(row.variant, row.depth, row.ancestor) for row in rows] == [
        ("v0000", 0, True),
        ("v0001", 1, True),
        ("v0002", 2, True),
        ("v0003", 3, True),
        ("v0004", 4, False),
    ]
