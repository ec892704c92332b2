"""What tests of conversations share lies beside the command line's; a card's driver whose kernels run on the processor."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def twin() -> Path:
    """A folder with the driver's library and kernels that it knows by name."""
    folder = ROOT / "target" / "twin"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            [sys.executable, ROOT / "rust" / "kernels-cuda" / "compile.py", "--twin", "--out", folder],
            check=True,
        )
    return folder
