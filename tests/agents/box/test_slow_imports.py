"""A nursery whose imports do not end says which they are."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from boxed import boxes  # noqa: E402

from moevolve.agents.box import nursery as nurseries  # noqa: E402
from moevolve.agents.box.interpreter import interpreter  # noqa: E402
from moevolve.agents.box.nursery import Nursery, Spec  # noqa: E402
from moevolve.errors import SandboxError  # noqa: E402


@boxes
@pytest.mark.parametrize("what", [{"imports": ("asleep",)}, {"prepare": "asleep:prepared"}])
def test_imports_that_do_not_end_are_named(
    what: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asleep.py").write_text("import time\ntime.sleep(10_000)\n")
    monkeypatch.setattr(nurseries, "START", 0.5)
    made = Nursery(Spec(interpreter(None), readable=(str(tmp_path),), path=(str(tmp_path),), **what))  # type: ignore[arg-type]
    with pytest.raises(SandboxError, match=r"with asleep took more than 0.5 s to start in a box"):
        asyncio.run_coroutine_threadsafe(made.start(), nurseries.loop()).result()
    nurseries.close([made])
