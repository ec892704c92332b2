"""A person's walk beside a quickstart that runs: from the first screen to what was promoted, the attempts that flipped,
the ten questions, a pause, a resume and a stop.

The walk takes some minutes of a real run: `MOEVOLVE_LIVE=1 pytest tests/tui/test_live.py` walks, and with
`MOEVOLVE_SNAPSHOTS=write` keeps what stood on the screen in `transcripts/live.txt`. Without it, what is kept is read.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_questions import listed
from test_tmux import MOEVOLVE, Terminal, terminal  # noqa: F401
from test_walk import at_rest

TRANSCRIPT = Path(__file__).parent / "transcripts" / "live.txt"
COMMAND = "run quickstart --cycles 2 --seed 5 --out runs/live"
MINUTES = 40
"""How long a step may take: a busy machine trains slowly."""
FIRST = [
    ("", "the run opens its screens", r"1 Overview", r"● running"),
    ("0", "the runs of this folder", r"quickstart-5", r"before > now"),
    ("Enter", "back to this one: the first score", r"Sealed \.\d+ ±\.\d+, again at the end"),
    ("1", "the gate, while it compares", r"Now: gate, ", r"evidence [━─]+", r"\d+ of 4,096 pairs"),
    ("1", "a program is promoted", r"c1 program v\d+ \+\.\d+ n=\d"),
    ("p", "a pause is asked for", r"y yes"),
    ("y", "and will come after this cycle", r"1 Overview"),
    ("1", "the run is paused", r"◐ paused", r"p resume"),
    (
        "Enter",
        "what changed: the diff of what was promoted",
        r"promoted: \+\.\d+ on [\d,]+ pairs",
        r"@@ -\d+",
    ),
    ("a", "the attempts that flipped", r"one side alone was right", r"(won|lost) "),
    ("Enter", "one of them", r"verdict: (won|lost)", r"The champion's answer"),
    ("Escape Escape Escape", "back to the run", r"Next: "),
]
"""Keys, what a person is after, and patterns that the screen then matches."""
ANSWERS = {
    "is it better, and how sure": [r"Dev \.\d+ ±\.\d+ > \.\d+ ±\.\d+, [+-]\.\d+ \[.+\] n=\d+"],
    "what changed": [r"promoted, cycle \d", r"@@ -\d+"],
    "why was it promoted": [r"promoted: \+\.\d+ on [\d,]+ pairs, \d+ won, \d+ lost", r"evidence .+, needed"],
    "why did this one fail": [r"verdict: (lost|wrong|malformed)", r"Prompt", r"Answer"],
    "which skill fell": [r"\d+ up, \d+ down, \d+ within noise"],
    "which tasks flipped": [r"one side alone was right"],
    "what did memory bring": [r"lessons kept", r"memory"],
    "what did it cost": [r"Where the time went", r"drawn +\d"],
    "is something wrong": [r"guard +checked +refused +alarms", r"Alarms"],
    "what do I do next": [r"Next: "],
}
LAST = [
    ("1", "the paused run", r"p resume"),
    ("p", "to go on is asked", r"y yes"),
    ("y", "it goes on", r"● running"),
    ("5", "cycle 2 trains", r"cycle 2, step \d+"),
    ("8", "what it takes", r"of CPU, [\d,]+ MiB"),
    ("P", "a stop is asked for", r"y yes"),
    ("y", "it ends whole", r"✔ finished"),
    ("9", "the log says so", r"Stopped by a person"),
]


def steps() -> Iterator[tuple[str, ...]]:
    yield from FIRST
    for question, keys in listed():
        yield (" ".join({"enter": "Enter"}.get(key, key) for key in keys), question, *ANSWERS[question])
    yield from LAST


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.skipif(
    "MOEVOLVE_LIVE" not in os.environ, reason="some minutes of a real run: MOEVOLVE_LIVE=1 walks"
)
def test_a_walk_beside_a_live_quickstart(terminal: Terminal) -> None:  # noqa: F811
    terminal.type(f"clear; {MOEVOLVE} {COMMAND}")
    told: list[str] = []
    for keys, aim, *patterns in steps():
        for key in keys.split():
            at_rest(terminal, "")
            terminal.press(key)

        seen: list[str] = []

        def shown(text: str, patterns: list[str] = patterns, seen: list[str] = seen) -> bool:
            # Three looks in a row show the same: it is drawn to its end.
            seen.append(text)
            return (
                len(seen) > 3 and len(set(seen[-3:])) == 1 and all(re.search(each, text) for each in patterns)
            )

        text = terminal.until_true(shown, f"{aim}: {patterns}", 60.0 * MINUTES)
        told.append(f"=== {keys or COMMAND}: {aim}\n{text.rstrip()}\n")
    terminal.press("q")
    terminal.until_true(lambda text: "9 Log" not in text, "the shell")
    if os.environ.get("MOEVOLVE_SNAPSHOTS") == "write":
        TRANSCRIPT.write_text("\n".join(line.rstrip() for line in "\n".join(told).splitlines()) + "\n")


def test_what_is_kept_of_the_walk_shows_each_step_in_its_order() -> None:
    parts = re.split(r"^=== ", TRANSCRIPT.read_text(), flags=re.MULTILINE)[1:]
    found = list(steps())
    assert [part.split("\n")[0] for part in parts] == [f"{keys or COMMAND}: {aim}" for keys, aim, *_ in found]
    for part, (_, aim, *patterns) in zip(parts, found, strict=True):
        for pattern in patterns:
            assert re.search(pattern, part), f"{aim}: no {pattern}"
        assert "Traceback" not in part
