"""The ten questions of docs/screens.md, answered by the keys that stand there, at three sizes."""

import re
from pathlib import Path

import msgspec
import pytest
import synthetic_run as synthetic
from textual.pilot import Pilot
from tui_harness import app_over, drive, screen_text

from moevolve.journal import samples
from moevolve.journal.drawing.lines import text_of
from moevolve.records import Entry, Recalled, Record, Remembered, Shown, Timing
from moevolve_tui.app import WatchApp

PAGE = Path(__file__).parents[2] / "docs" / "screens.md"
SIZES = [(80, 24), (120, 32), (180, 50)]
ANSWERS = {
    "is it better, and how sure": [r"Dev \.\d+ ±\.\d+ > \.\d+ ±\.\d+, [+-]\.\d+ \[.+\] n=\d+"],
    "what changed": [r"@@ -\d+.* \+\d+.* @@", r"'v\d': vote"],
    "why was it promoted": [
        r"promoted: \+\.043 on 420 pairs, 90 won, 48 lost",
        r"evidence 30 : 1, needed 20 : 1",
    ],
    "why did this one fail": [r"verdict: (lost|wrong), score 0", r"Prompt", r"Answer"],
    "which skill fell": [r"\d+ up, 1 down, \d+ within noise", r"! +add"],
    "which tasks flipped": [r"one side alone was right", r"(won|lost) +text/reverse"],
    "what did memory bring": [r"it brought \+0\.\d+ \[.+\] \(95 %\) to attempts that recalled, n=\d+"],
    "what did it cost": [r"Where the time went", r"training +\d+:\d\d", r"drawn +\d"],
    "is something wrong": [r"guard +checked +refused +alarms", r"provenance"],
    "what do I do next": [r"Next: p pause after this cycle"],
}


def listed() -> list[tuple[str, list[str]]]:
    """Questions and keys as the page has them."""
    part = PAGE.read_text().split("## Ten questions")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (?!question|---)(.+?) \| (.+?) \|", part, re.MULTILINE)
    return [(question, re.findall(r"`([^`]+)`", keys)) for question, keys in rows]


def app() -> WatchApp:
    """A run that goes on, in which a skill fell beyond noise and memory was asked."""
    run = synthetic.recorded(synthetic.middle())
    found = []
    for entry in run.written:
        record = entry.record
        skills = getattr(record, "skills", None)
        if isinstance(skills, dict) and getattr(record, "split", "") == "dev" and record.cycle:  # type: ignore[union-attr]
            fallen = msgspec.structs.replace(skills["number/add"], score=0.05)
            record = msgspec.structs.replace(record, skills={**skills, "number/add": fallen})  # type: ignore[type-var]
        found.append(msgspec.structs.replace(entry, record=record))
    told: list[Record] = [
        Recalled(
            cycle=4,
            stage="program",
            variant="v0007",
            attempts=40,
            recalls=40,
            silent=0,
            lessons=["a"],
            shown=[Shown(attempt=place, lessons=[0], score=1.0) for place in range(40)],
        ),
        Remembered(
            cycle=4,
            variant="v0007",
            with_memory=[1.0] * 30,
            without=[*[0.0] * 12, *[1.0] * 18],
            tokens=1000,
            trust={},
            expired=[],
        ),
    ]
    for record in told:
        seq = len(found)
        found.append(Entry(seq=seq, record=record, timing=Timing(at=4.0 * seq), hash=f"{seq:064x}"))
    run.written = found
    # Of every variant some attempts are kept.
    kept = run.tables[samples.TABLE]
    for number in range(1, 9):
        for stage in ("program", "gate"):
            _, key, value = samples.put(4, stage, f"v{number:04}", synthetic.attempts(stage))
            assert value is not None
            kept[key] = value
    return app_over(run)


def visible(watched: WatchApp) -> str:
    """The top of the screen and the rows of the pane in focus that stand on it, wrapped lines joined."""
    pane = watched.chosen_pane
    first = pane.scroll_offset.y
    rows = range(first, min(pane.page.count(), first + pane.scrollable_content_region.height))
    words = [*screen_text(watched)[:3], *(text_of(pane.page.line(index)) for index in rows)]
    return re.sub(r"\s+", " ", " ".join(words))


def test_the_page_lists_ten_questions_each_within_three_keys() -> None:
    found = listed()
    assert [question for question, _ in found] == list(ANSWERS)
    assert all(1 <= len(keys) <= 3 for _, keys in found)


@pytest.mark.parametrize("size", SIZES)
def test_the_keys_lead_to_the_answers(size: tuple[int, int]) -> None:
    watched = app()

    async def script(pilot: Pilot[str]) -> None:
        for question, keys in listed():
            # From wherever the question before has led.
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
            shown = visible(watched)
            for pattern in ANSWERS[question]:
                assert re.search(pattern, shown), f"{question}: no {pattern} in\n{shown}"

    drive(watched, script, size)
