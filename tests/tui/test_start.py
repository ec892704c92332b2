"""What the screens take in before they are first drawn: one page, and nothing of those that nobody looks at yet."""

import subprocess
import sys
from pathlib import Path

import synthetic_run as synthetic
from textual.pilot import Pilot
from tui_harness import app_over, drive, settled, shows

PAGES = (
    "attempts",
    "diff",
    "guards",
    "lineage",
    "log",
    "memory",
    "records",
    "skills",
    "system",
    "train",
    "variant",
)


def test_the_first_screen_takes_in_its_own_page_alone() -> None:
    script = (
        "import sys\n"
        "from moevolve_tui.main import main\n"
        "from moevolve_tui.app import WatchApp\n"
        "from moevolve_tui.session import Session\n"
        "WatchApp(Session())\n"
        "print('\\n'.join(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "HOME": str(Path.home())},
    )
    loaded = set(done.stdout.split())
    assert "moevolve_tui.pages.overview" in loaded
    assert not {f"moevolve_tui.pages.{name}" for name in PAGES} & loaded
    assert "moevolve_tui.dialogs" not in loaded
    assert not {"moevolve.journal.lessons", "moevolve.loop", "moevolve.models", "numpy", "jinja2"} & loaded


def test_a_pane_that_nobody_sees_has_no_page_of_its_own_yet() -> None:
    app = app_over(synthetic.recorded(60))

    async def script(pilot: Pilot[str]) -> None:
        assert app.pages.made(1) is app.panes[0].page
        assert app.pages.made(2) is None and app.pages.made(9) is None
        await pilot.resize_terminal(120, 32)
        await settled(pilot, lambda: app.panes[1].display)
        assert app.panes[1].page is app.pages.made(2)

        await pilot.resize_terminal(80, 24)
        await settled(pilot, lambda: not app.panes[1].display)
        await pilot.resize_terminal(40, 10)
        await settled(pilot, lambda: shows(app, "40x10 is too small"))

    drive(app, script, (80, 24))
