"""SVG snapshots of the TUI, and the path to what its tests share."""

import difflib
import gzip
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from textual.app import App

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "fixtures")]

SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The terminal and the settings of whoever runs the tests must not change what they compare."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    for name in ("NO_COLOR", "FORCE_COLOR", "TEXTUAL_THEME", "TEXTUAL_ANIMATIONS", "TEXTUAL"):
        monkeypatch.delenv(name, raising=False)


def unforeseen(error: Exception, *where: object) -> NoReturn:
    raise AssertionError(f"raised at {where}") from error


@pytest.fixture(autouse=True)
def nothing_unforeseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the screens survive with a word is a failure all the same where nobody meant it."""
    monkeypatch.setattr("moevolve_tui.pages.page.undrawn", unforeseen)
    monkeypatch.setattr("moevolve_tui.model.unread", unforeseen)


def normalised(svg: str) -> str:
    """The picture without what differs from call to call: generated class names and trailing spaces."""
    svg = re.sub(r"terminal-\d+", "terminal", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def texts(svg: str) -> list[str]:
    """The text lines of a picture, for a difference that a person can read."""
    rows: dict[str, str] = {}
    for row, text in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', svg):
        rows[row] = rows.get(row, "") + text.replace("&#160;", " ")
    return list(rows.values())


@pytest.fixture
def matches_snapshot() -> Callable[[App[str], str], None]:
    """Compares the screen with tests/tui/snapshots/NAME.svg. `MOEVOLVE_SNAPSHOTS=write` writes it anew."""

    def compare(app: App[str], name: str) -> None:
        # Compressed: a hundred pictures are six megabytes as they are. `zcat` shows one.
        file = SNAPSHOTS / f"{name}.svg.gz"
        shown = normalised(app.export_screenshot(title="moevolve watch", simplify=True))
        if os.environ.get("MOEVOLVE_SNAPSHOTS") == "write":
            SNAPSHOTS.mkdir(exist_ok=True)
            file.write_bytes(gzip.compress(shown.encode(), mtime=0))
            return
        assert file.exists(), f"no snapshot {file.name}: make it with MOEVOLVE_SNAPSHOTS=write"
        stored = gzip.decompress(file.read_bytes()).decode()
        if shown != stored:
            lines = difflib.unified_diff(texts(stored), texts(shown), "stored", "shown", lineterm="")
            change = "\n".join(list(lines)[:60]) or "the text is the same, colours or places differ"
            pytest.fail(f"{name} looks different; if that is meant, write it anew\n{change}")

    return compare
