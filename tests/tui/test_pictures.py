"""Pictures for a page: whole in themselves, the same every time."""

import asyncio
import json
import re
from pathlib import Path

import synthetic_run as synthetic

from moevolve.journal.store import RunStore
from moevolve.records import Timing
from moevolve_tui.cast import cast
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


def test_a_cast_has_a_line_for_each_record_in_order_of_time(tmp_path: Path) -> None:
    records = list(synthetic.records())
    with RunStore.create(tmp_path / "run") as store:
        for index, record in enumerate(records):
            store.append([record], Timing(at=0.5 * index))
    head, *events = map(json.loads, cast(tmp_path / "run", (100, 30)).splitlines())
    assert (head["version"], head["width"], head["height"]) == (2, 100, 30)
    assert [event[0] for event in events] == [0.5 * index for index in range(len(records))]
    assert all(event[1] == "o" and event[2].endswith("\r\n") for event in events)
    assert "\x1b" not in "".join(event[2] for event in events)
