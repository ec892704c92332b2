"""A person's walk through a finished run in a terminal, from the list to an attempt that flipped; what stood on the screen.

`MOEVOLVE_SNAPSHOTS=write pytest tests/tui/test_walk.py` writes the transcript anew.
"""

import difflib
import os
import shutil
from pathlib import Path

import msgspec
import pytest
import synthetic_run as synthetic
from test_tmux import WATCH, Terminal, terminal  # noqa: F401

from moevolve.journal import samples
from moevolve.journal.store import RunStore
from moevolve.records import CycleStarted, Timing

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

TRANSCRIPT = Path(__file__).parent / "transcripts" / "walk.txt"
STEPS: list[tuple[str, ...]] = [
    ("0", "the runs", "before > now"),
    ("Enter", "the run: is it better, and how sure", "Next: 4 see what was promoted"),
    ("Enter", "what changed", "@@"),
    ("a", "the attempts that flipped", "one side alone was right"),
    ("Enter", "one of them", "verdict:"),
    ("Escape", "back", "one side alone was right"),
    ("Escape", "back to the diff", "@@"),
    ("Escape", "back to the run", "Next: 4 see what was promoted"),
    ("2", "the skills", "+ rose, ! fell"),
    ("j", "the cursor on a skill", "> "),
    ("Enter", "a skill by level", "level mastered"),
    ("Escape", "back to the skills", "+ rose, ! fell"),
    ("3", "the lineage", "17 variants"),
    ("t", "a replay", "replay", "+.226"),
    ("Escape", "back from it", "17 variants"),
    ("9", "the log", "following"),
    ("?", "help", "Colour says only"),
    ("Escape", "back to the log", "following"),
    ("6", "memory", "so it changed no answer"),
    ("7", "guards", "Alarms, newest first"),
]
"""Key, what a person is after, and words that then stand on the screen."""


def recorded(folder: Path) -> Path:
    """The synthetic run on disk, with sources and attempts of the gate."""
    path = folder / "runs" / "first"
    made = list(synthetic.records())
    with RunStore.create(path) as store:
        held = {f"p{number}": store.put_blob(synthetic.program(number)) for number in range(20)}
        for index, record in enumerate(made):
            program = getattr(record, "program", "")
            if program in held:
                record = msgspec.structs.replace(record, program=held[program])  # type: ignore[type-var]
            store.append([record], Timing(at=4.0 * index, took=3.5))
        puts = [
            samples.put(record.cycle, "gate", f"v{number:04}", synthetic.attempts("gate"))
            for record in made
            if isinstance(record, CycleStarted)
            for number in (2 * record.cycle - 1, 2 * record.cycle)
        ]
        store.puts(puts)
        store.set_state(synthetic.state_at(len(made), "finished"))
    return path


def at_rest(terminal: Terminal, before: str, *words: str) -> str:  # noqa: F811
    """The next screen with these words, once nothing more is drawn: five looks in a row show the same."""
    seen: list[str] = []

    def resting(text: str) -> bool:
        seen.append(text)
        there = text != before and all(each in text for each in words)
        return there and len(seen) > 5 and len(set(seen[-5:])) == 1

    return terminal.until_true(resting, f"{words}")


def test_a_walk_from_the_list_to_an_attempt(terminal: Terminal, tmp_path: Path) -> None:  # noqa: F811
    recorded(tmp_path)
    terminal.type(f"clear; {WATCH} runs")
    text = at_rest(terminal, "", "✔ finished", "Next: 4")
    told = []
    for key, aim, *words in STEPS:
        terminal.press(key)
        text = at_rest(terminal, text, *words)
        told.append(f"=== {key}: {aim}\n{text.rstrip()}\n")
    terminal.press("q")
    terminal.until_true(lambda text: "7 Guards" not in text, "the shell")
    text = "\n".join(line.rstrip() for line in "\n".join(told).splitlines()) + "\n"
    if os.environ.get("MOEVOLVE_SNAPSHOTS") == "write":
        TRANSCRIPT.parent.mkdir(exist_ok=True)
        TRANSCRIPT.write_text(text)
        return
    stored = TRANSCRIPT.read_text()
    change = "\n".join(
        difflib.unified_diff(stored.splitlines(), text.splitlines(), "stored", "shown", lineterm="")
    )
    assert text == stored, f"the walk looks different; if that is meant, write it anew\n{change[:6000]}"
