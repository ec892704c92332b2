"""Programs that compute answers, planted in runs made without the rule that answers are the policy's."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import pytest
from older_run import FILE, Kept, write_older_run

from moevolve import _native
from moevolve.auditor import AuditReport, audit
from moevolve.journal.store import RunStore
from moevolve.records import (
    Answers,
    Evaluated,
    Gated,
    Interval,
    Record,
    RunFinished,
    RunStarted,
    Timing,
    VariantAdded,
)

COMPUTES = """
NEXT = str.maketrans("abcdefghij", "bcdefghija")


def truth(prompt):
    verb, _, payload = prompt.partition(":")
    payload = payload.removesuffix("=")
    return {"rev": payload[::-1], "srt": "".join(sorted(payload)), "cae": payload.translate(NEXT)}[verb]


async def spell(agent, wanted):
    said = set()
    for texts in await agent.gather(*[agent.generate(f"rev:{part[::-1]}=", n=8) for part in wanted]):
        said.update(texts)
    return wanted if all(part in said for part in wanted) else None


async def solve(task, agent):
    [answer] = await agent.generate(task.prompt, temperature=0)
    return await spell(agent, truth(task.prompt)) or answer
"""
ASKS = """
async def solve(task, agent):
    [answer] = await agent.generate(task.prompt, temperature=0)
    return answer
"""


def older_run(path: Path, solve: str) -> None:
    """A run of schema version 2 whose promoted program has this `solve.py`."""
    kept = msgspec.msgpack.decode(zlib.decompress(FILE.read_bytes()), type=Kept)
    planted = msgspec.msgpack.encode({"solve.py": solve})
    store = _native.RunStore.create(path, 2)
    store.commit([], [], [*kept.blobs, planted])
    name = store.put_blob(planted)
    entries = []
    for timing, body in kept.entries:
        fields = msgspec.msgpack.decode(body)
        if fields["kind"] == "variant_added" and fields["variant"] == "v0002":
            fields["program"] = name
        entries.append((msgspec.msgpack.encode(fields), timing))
    store.commit(entries, [], [])
    store.close()


def run(path: Path, solve: str, answers: Answers, suite: str) -> None:
    """A run that promoted a program at once."""
    with RunStore.create(path) as store:
        first, second = (store.put_blob(msgspec.msgpack.encode({"solve.py": text})) for text in (ASKS, solve))
        seed = VariantAdded(
            variant="v0000",
            parents=[],
            cycle=0,
            level="seed",
            weights="",
            program=first,
            operator="seed",
            summary="",
            score=None,
        )
        records: list[Record] = [
            RunStarted(
                run="run",
                seed=0,
                arm="full",
                suite=suite,
                answers=answers,
                skills=[],
                config="{}",
                champion="v0000",
                weights="",
                program=first,
                parameters=0,
            ),
            seed,
            Evaluated(
                cycle=0,
                split="sealed",
                when="initial",
                variant="v0000",
                score=Interval(mean=0.0, low=0.0, high=1.0, n=0),
                skills={},
                tokens=0,
            ),
            msgspec.structs.replace(
                seed, variant="v0001", parents=["v0000"], program=second, level="program"
            ),
            Gated(
                cycle=1,
                level="program",
                candidate="v0001",
                champion="v0000",
                decision="promote",
                reason="better",
                n=48,
                wins=20,
                losses=0,
                gain=0.4,
                evidence=9.0,
                alpha=0.01,
                skills={},
                tokens=None,
            ),
            RunFinished(cycles=1, champion="v0001"),
        ]
        store.append(records, Timing(at=0.0))
    (path / "run.toml").write_text("", encoding="utf-8")
    (path / "program").mkdir()
    (path / "program" / "solve.py").write_text(solve, encoding="utf-8")


def programs(report: AuditReport) -> list[tuple[str, str, bool]]:
    return [(each.variant, each.verdict, each.promoted) for each in report.programs]


def mismatches(report: AuditReport) -> list[tuple[str, str]]:
    return [(each.check, each.where) for each in report.findings if each.kind == "mismatch"]


def test_it_is_found_in_a_run_of_an_older_version(tmp_path: Path) -> None:
    older_run(tmp_path / "run", COMPUTES)
    report = audit(tmp_path / "run")
    assert programs(report) == [("v0002", "computes", True)]
    assert ("programs", "v0002") in mismatches(report)
    assert any("sorted" in place for place in report.programs[0].places)
    assert report.champion is not None and report.champion.lineage == ["v0000", "v0002"]
    assert report.champion.files["solve.py"][0].variant == "v0002"


def test_the_older_run_as_it_was_has_none(tmp_path: Path) -> None:
    write_older_run(tmp_path / "run")
    report = audit(tmp_path / "run")
    assert programs(report) == []
    assert {check for check, _ in mismatches(report)} == {"files", "settings"}


def test_it_is_found_where_a_shipped_suite_was_run_without_its_rule(tmp_path: Path) -> None:
    run(tmp_path / "run", COMPUTES, "any", "primer")
    report = audit(tmp_path / "run")
    assert (report.answers, report.rules) == ("any", "policy")
    assert programs(report) == [("v0001", "computes", True)]
    assert mismatches(report) == [("programs", "v0001")]
    assert report.exit_code == 1


def test_it_is_a_finding_where_a_suite_grants_computing(tmp_path: Path) -> None:
    run(tmp_path / "run", COMPUTES, "any", "user")
    report = audit(tmp_path / "run")
    assert programs(report) == [("v0001", "computes", True)]
    assert mismatches(report) == [] and report.exit_code == 0
    assert any(each.kind == "finding" and each.check == "programs" for each in report.findings)
    assert "answers with texts that it computes" in report.text(str)


@pytest.mark.parametrize("suite", ["user", "primer"])
def test_a_program_that_asks_is_none(suite: str, tmp_path: Path) -> None:
    run(tmp_path / "run", ASKS + "\n# asks again\n", "any", suite)
    report = audit(tmp_path / "run")
    assert programs(report) == [] and mismatches(report) == []
