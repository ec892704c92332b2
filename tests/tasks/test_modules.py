"""Modules of a user's own: what stands beside them is nobody else's afterwards, whatever they do to the list of modules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from moevolve.tasks.modules import beside, imported

CHECK = """import sys
{deed}
import helper_beside_it
def check():
    import late_beside_it
    return helper_beside_it.VALUE + late_beside_it.VALUE
"""
DEEDS = {
    "nothing": "",
    "drops the newest module": "sys.modules.pop([*sys.modules][-1])",
    "drops a library that was there": "sys.modules.pop('colorsys', None)",
    "moves a module to the end": "sys.modules['this_one'] = sys.modules.pop('this_one', sys)",
    "has imported it under another name": "import helper_beside_it as one; sys.modules['two_of_it'] = one",
}


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_what_stands_beside_a_file_is_nobody_elses(deed: str, tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    (folder / "helper_beside_it.py").write_text("VALUE = 1\n")
    (folder / "late_beside_it.py").write_text("VALUE = 2\n")
    (folder / "own_check.py").write_text(CHECK.format(deed=deed))
    check = imported(folder / "own_check.py")["check"]
    for _ in range(2):
        with beside(str(folder)):
            assert check() == 3
        left = [name for name, module in sys.modules.items() if _from(module, folder)]
        assert not left
    (folder / "helper_beside_it.py").write_text("VALUE = 10\n")
    check = imported(folder / "own_check.py")["check"]
    with beside(str(folder)):
        assert check() == 12, "a file that has changed is read again"
    sys.modules.pop("this_one", None)


def _from(module: object, folder: Path) -> bool:
    return (getattr(module, "__file__", None) or "").startswith(f"{folder}/")
