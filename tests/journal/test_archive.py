"""The archive keeps every variant, and knows where each came from."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.errors import UsageError
from moevolve.journal.archive import Archive, Variant


def variant(id: str, parent: str | None, score: float | None = None, status: str = "kept") -> Variant:
    return Variant(
        id, [parent] if parent else [], 0, f"w{id}", f"p{id}", "program", "operator", "summary", score, status
    )


def family() -> Archive:
    archive = Archive()
    for id, parent in [("v0", None), ("v1", "v0"), ("v2", "v0"), ("v3", "v1"), ("v4", "v3")]:
        archive.add(variant(id, parent))
    return archive


def ids(variants: list[Variant]) -> list[str]:
    return [one.id for one in variants]


def test_lineage_goes_from_the_root_to_the_variant() -> None:
    assert ids(family().lineage("v4")) == ["v0", "v1", "v3", "v4"]
    assert ids(family().lineage("v0")) == ["v0"]


def test_a_variant_is_a_child_of_its_first_parent_alone() -> None:
    archive = family()
    assert ids(archive.children("v0")) == ["v1", "v2"]
    archive.add(msgspec.structs.replace(variant("v5", "v1"), parents=["v1", "v2"]))
    assert ids(archive.children("v1")) == ["v3", "v5"]
    assert archive.children("v2") == []


def test_lineage_follows_weights_and_program_where_they_come_from_two_variants() -> None:
    archive = family()
    archive.add(msgspec.structs.replace(variant("v5", "v4"), parents=["v4", "v2"]))
    assert ids(archive.lineage("v5")) == ["v0", "v1", "v2", "v3", "v4", "v5"]


def test_rejected_variants_stay() -> None:
    archive = family()
    archive.update("v2", status="rejected", score=0.0)
    assert len(archive) == 5
    assert archive["v2"].status == "rejected"
    assert ids(list(archive)) == ["v0", "v1", "v2", "v3", "v4"]
    assert "v2" in archive


def test_the_champion_is_the_newest_of_that_status() -> None:
    archive = family()
    assert archive.champion is None
    archive.update("v1", status="champion")
    assert archive.champion == archive["v1"]


@given(st.lists(st.integers(0, 30), max_size=40))
def test_any_tree_has_one_root_at_the_head_of_every_lineage(parents: list[int]) -> None:
    archive = Archive()
    archive.add(variant("v0", None))
    for index, parent in enumerate(parents, start=1):
        archive.add(variant(f"v{index}", f"v{parent % index}"))
    for one in archive:
        lineage = archive.lineage(one.id)
        assert lineage[0].id == "v0"
        assert lineage[-1] == one
        assert all(child.parents == [above.id] for above, child in zip(lineage, lineage[1:], strict=False))


def test_what_does_not_fit_is_named() -> None:
    archive = family()
    with pytest.raises(UsageError, match="v1 is in the archive already"):
        archive.add(variant("v1", "v0"))
    with pytest.raises(UsageError, match="no variant 'v44' in the archive; did you mean v4"):
        archive.add(variant("v5", "v44"))
    with pytest.raises(UsageError, match="no variant"):
        archive.lineage("x")
    with pytest.raises(UsageError, match="parents cannot change"):
        archive.update("v1", parents=["v2"])
    assert len(archive) == 5
