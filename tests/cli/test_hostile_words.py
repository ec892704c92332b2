"""Words from outside on their way to a terminal, a page or a pipe: none steers, hides, forges or marks up anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from command_line import Command
from hostile_run import FORGED, POISON, STEERING, poisoned_record, write_hostile_run
from synthetic_journal import records

from moevolve.journal.view import describe
from moevolve.records import (
    Ablated,
    Consolidated,
    Controlled,
    Generalised,
    Grown,
    GrowthScored,
    Guarded,
    Imported,
    Improved,
    Interval,
    Metered,
    Nulls,
    NullSearched,
    Outlived,
    ProposerAsked,
    Rated,
    Recalled,
    Record,
    Remembered,
    RolledBack,
    RunExtended,
    SealedOpened,
    Selected,
    Shown,
    SkillInfo,
    SkillScore,
    Suspect,
    Tally,
)

READERS = [
    ["show", "RUN"],
    ["ls", "."],
    ["report", "RUN"],
    ["compare", "RUN", "RUN"],
    ["diff", "RUN", "seed", "champion"],
    ["audit", "RUN"],
    ["skills", "RUN"],
]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    return write_hostile_run(tmp_path / "run")


def harmless(text: str) -> None:
    found = STEERING.search(text)
    assert found is None, repr(text[max(0, found.start() - 80) : found.end() + 80]) if found else ""
    assert [line for line in text.splitlines() if line.startswith(FORGED)] == []


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])
@pytest.mark.parametrize("json_too", [False, True], ids=["text", "json"])
def test_what_commands_print_is_harmless(
    words: list[str], json_too: bool, hostile: Path, moevolve: Command
) -> None:
    arguments = [str(hostile) if word == "RUN" else word for word in words]
    done = moevolve(*arguments, *(["--json"] if json_too else []))
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout
    harmless(done.stdout)
    harmless(done.stderr)
    if json_too:
        json.loads(done.stdout)


def test_json_says_the_same_as_the_record(hostile: Path, moevolve: Command) -> None:
    """What is escaped in JSON is the same text to whoever reads it."""
    shown = json.loads(moevolve("show", hostile, "--json").stdout)
    assert shown["suite"].endswith(POISON)


def test_markup_is_shown_and_not_obeyed(hostile: Path, moevolve: Command) -> None:
    shown = moevolve("audit", hostile).stdout
    assert "[bold red]loud[/]" in shown
    assert "[bold" in moevolve("show", hostile).stdout


def test_a_page_is_harmless(hostile: Path, moevolve: Command, tmp_path: Path) -> None:
    moevolve("report", hostile)
    pages = [*tmp_path.rglob("*.html"), *tmp_path.rglob("*.svg")]
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script>alert" not in text
        harmless(text)


@pytest.mark.parametrize(
    "words",
    [
        ["show", f"nothing{POISON}".replace("\0", "").replace("/", "")],
        ["diff", "RUN", f"v9{POISON}".replace("\0", ""), "seed"],
        ["audit", "RUN", "--decision", f"v9{POISON}".replace("\0", "")],
        ["resume", "RUN"],
        ["replay", "RUN"],
        ["approve", "RUN", f"v9{POISON}".replace("\0", "")],
        ["export", "RUN", "--program"],
        [f"shwo{POISON}".replace("\0", "")],
        ["run", f"quick{POISON}".replace("\0", "").replace("/", "")],
    ],
    ids=lambda words: words[0][:7].strip("\x1b"),
)
def test_errors_are_harmless(words: list[str], hostile: Path, moevolve: Command) -> None:
    done = moevolve(*[str(hostile) if word == "RUN" else word for word in words])
    assert "Traceback" not in done.stderr, done.stderr
    harmless(done.stderr)
    harmless(done.stdout)
    assert not re.search(r"^moevolve: .*\nmoevolve: ", done.stderr)


HALF = Interval(mean=0.5, low=0.1, high=0.9, n=2)
OTHERS: list[Record] = [
    Ablated(
        cycle=1,
        weights="v0001",
        bare=HALF,
        old=None,
        program="p",
        searched=HALF,
        variant="v0002",
        promoted=False,
        outcomes={"bare": [0.0, 1.0], "old": [None, None], "searched": [0.0, 1.0]},
        tokens=9,
    ),
    RolledBack(cycle=1, champion="v0000", before="v0001", reason="asked"),
    Guarded(
        cycle=1,
        guard="drift",
        checked=4,
        vetoed=1,
        detail="text/reverse",
        variant="v0001",
        alarm=True,
        attempts=[Suspect(task="t", prompt="p", answer="a")],
    ),
    Controlled(
        cycle=1, request=1, command="approve", variant="v0001", done=True, champion="v0001", detail="by"
    ),
    SealedOpened(cycle=0, count=1, variant="v0000", when="initial", tasks=8, digest="d"),
    ProposerAsked(
        cycle=1,
        step=0,
        proposer="model",
        asked=4,
        made=1,
        repeats=1,
        broken=["edit: no"],
        failure="error",
        detail="d",
        requests=1,
        tokens=2,
    ),
    Nulls(
        cycle=1,
        variant="v1",
        samples=4,
        champion=Interval(mean=0.5, low=0.4, high=0.6, n=9),
        greedy=Interval(mean=0.5, low=0.4, high=0.6, n=9),
        self_consistency=Interval(mean=0.5, low=0.4, high=0.6, n=9),
        best_of=Interval(mean=0.5, low=0.4, high=0.6, n=9),
        tokens=3,
    ),
    Selected(cycle=1, step=0, policy="dgm", action="expand", variant="v0000", chance=0.5),
    Rated(
        evaluation=1, variant="v1", purpose="candidate", score=None, failure="error", detail="it raised\nhere"
    ),
    Improved(
        evaluation=2,
        candidate="v1",
        champion="v0",
        decision="promote",
        rule="permutation",
        candidate_scores=[2.0],
        champion_scores=[1.0],
        p=0.001,
        alpha=0.004,
    ),
    RunExtended(cycle=2, more_cycles=1, more_minutes=None, cycles=3),
    NullSearched(null="best_of", head="h", evaluations=3, failed=1, champion="v2", score=1.0),
    Imported(cycle=1, request=1, program="p" * 64, done=True),
    Imported(cycle=1, request=2, program="", done=False, detail="it holds no program"),
    Grown(
        cycle=1,
        growth="g001",
        change="compose",
        skill="compose/a_then_b",
        parents=["text/a", "text/b"],
        leaves=[SkillInfo(path="compose/a_then_b", summary="s", levels=(1, 8))],
        feature="length",
        variant="v1",
        decision="declined",
        reason="too few were right",
        trial=[Tally(skill="compose/a_then_b", level=1, attempts=4, successes=1)],
        tokens=3,
    ),
    GrowthScored(
        cycle=1,
        variant="v1",
        skills={"compose/a_then_b": SkillScore(score=0.5, n=2)},
        tallies=[],
        missing=0,
        behaviour=None,
        tokens=3,
    ),
    Generalised(
        cycle=1,
        column="G3",
        variant="v1",
        cells=[("text/a", 1, 2)],
        outcomes={"seed": [0.0, 1.0], "champion": [1.0, 1.0]},
        seed=Interval(mean=0.5, low=0.1, high=0.9, n=2),
        champion=Interval(mean=1.0, low=0.3, high=1.0, n=2),
        missing=0,
        tokens=3,
    ),
    Generalised(
        cycle=1,
        column="G4",
        variant="v1",
        cells=[],
        outcomes={},
        seed=None,
        champion=None,
        missing=0,
        tokens=0,
        reason="no skill was left out",
    ),
    Recalled(
        cycle=1,
        stage="gate",
        variant="v1",
        attempts=2,
        recalls=3,
        silent=1,
        lessons=["l1"],
        shown=[Shown(attempt=0, lessons=[0], score=None)],
    ),
    Remembered(
        cycle=1,
        variant="v1",
        with_memory=[1.0, None],
        without=[0.0, None],
        tokens=4,
        trust={"l1": 0.6},
        expired=["l2"],
        notes=1,
        refused={"known": 2},
    ),
    Consolidated(
        cycle=1,
        merge="m001",
        skill="s",
        about="fact",
        decision="declined",
        reason="attempts tell a and b apart",
        lesson="",
        sources=["a", "b"],
        evidence=[(1.0, 0.0), (0.0, 1.0)],
        trust=0.5,
    ),
    Outlived(cycle=2, lessons=["l1"]),
    Metered(
        cycle=1,
        stage="gate v0001",
        requests=4,
        reused=0,
        calls=5,
        faults={"timeout": 1},
        failures={"timeout": 1},
        prompt_tokens=9,
        cached_tokens=0,
        completion_tokens=9,
        unmetered=0,
        cost="0.1",
        currency="USD",
        exchanges="e",
    ),
]


def test_every_kind_of_record_is_said_harmlessly() -> None:
    kinds = set()
    for record in [*records(cycles=2, finished=True), *OTHERS]:
        said, _ = describe(poisoned_record(record))
        kinds.add(type(record))
        harmless(said)
        assert "\n" not in said
    assert kinds == set(get_args(Record))
