"""Attempts kept for people: bounded, cut, and dropped with their cycle."""

from pathlib import Path

from moevolve.journal import samples
from moevolve.journal.store import RunStore
from moevolve.records import Sample


def attempt(**changes: object) -> Sample:
    values: dict[str, object] = {
        "task": "text/reverse/3/7",
        "skill": "text/reverse",
        "level": 3,
        "prompt": "rev:abc=",
        "answer": "cba",
        "success": True,
        "score": 1.0,
        "failure": None,
        "detail": "",
    }
    return Sample(**(values | changes))  # type: ignore[arg-type]


def test_samples_come_back_by_stage_the_newest_cycle_first(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run") as store:
        store.puts([samples.put(1, "dev", "v0001", [attempt()]), samples.put(12, "gate", "a/b", [])])
        newest, oldest = samples.stages(store)
        assert (newest.cycle, newest.stage, newest.variant) == (12, "gate", "a/b")
        assert oldest.samples == [attempt()]
        assert samples.stages(store, cycle=1) == [oldest]


def test_long_texts_and_many_requests_are_cut(tmp_path: Path) -> None:
    long = "x" * 10_000
    kept = samples.cut(attempt(prompt=long, other=long, requests=[(long, long)] * 100))
    assert len(kept.prompt) == len(kept.other or "") == samples.LONGEST
    assert len(kept.requests) == samples.REQUESTS
    assert all(len(text) <= samples.LONGEST for pair in kept.requests for text in pair)


def test_samples_of_old_cycles_go(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run") as store:
        store.puts([samples.put(cycle, "dev", "v0001", []) for cycle in (1, 2)])
        store.puts(samples.outdated(store, samples.CYCLES + 1))
        assert [stage.cycle for stage in samples.stages(store)] == [2]
        assert samples.outdated(store, 0) == []


def test_a_variants_stages_are_found_however_many_came_after_it(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run") as store:
        early = [samples.put(3, stage, "v1", [attempt()]) for stage in ("screen", "gate")]
        later = [samples.put(cycle, "screen", f"v{cycle}{n}", []) for cycle in range(4, 20) for n in range(9)]
        store.puts([*early, *later, samples.put(3, "screen", "v12", [attempt()])])
        found = samples.stages(store, variant="v1", limit=5)
        assert [(stage.cycle, stage.stage, stage.variant) for stage in found] == [
            (3, "screen", "v1"),
            (3, "gate", "v1"),
        ]
        assert {stage.cycle for stage in samples.stages(store, until=4, limit=10)} == {3, 4}
