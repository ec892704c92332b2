"""Pictures for a page: whole in themselves, the same every time."""

import asyncio
import re
from pathlib import Path

import synthetic_run as synthetic

from moevolve.journal.store import RunStore
from moevolve.records import Timing
from moevolve_tui.pictures import PICTURES, draw


def test_pictures_are_drawn_from_a_run_and_need_nothing_from_outside(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run") as store:
        store.append(list(synthetic.records()), Timing(at=1.0))
    files = asyncio.run(draw(tmp_path / "run", tmp_path, (100, 30), "textual-dark"))
    assert [file.stem for file in files] == list(PICTURES)
    for file in files:
        text = file.read_text()
        assert "font-face" not in text and "url(http" not in text
        assert set(re.findall(r"https?://[^\s\"]+", text)) <= {
            "http://www.w3.org/2000/svg",
            "https://www.textualize.io",
        }
    again = asyncio.run(draw(tmp_path / "run", tmp_path / "run", (100, 30), "textual-dark"))
    assert [file.read_text() for file in again] == [file.read_text() for file in files]
