"""Pictures of the screens over a run on file, as SVG, and its text cast: `python -m moevolve_tui.pictures RUN FOLDER`."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from pathlib import Path

from moevolve_tui.app import WatchApp
from moevolve_tui.attach import session_of
from moevolve_tui.cast import cast

PICTURES = {"overview": 1, "skills": 2, "diff": 4}
"""Name -> screen."""
WAITS = 6000


def standalone(svg: str) -> str:
    """The picture without fonts from elsewhere, and without names that differ from call to call."""
    svg = re.sub(r"\s*@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"terminal-\d+", "terminal", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


async def draw(run: Path, folder: Path, size: tuple[int, int], theme: str) -> list[Path]:
    """Writes a picture of every screen in `PICTURES`; returns their files."""
    session = session_of([run], run.parent, wait=False)
    app = WatchApp(session, clock=lambda: 0.0)
    written = []
    async with app.run_test(size=size) as pilot:
        app.theme = theme
        model = session.runs[0]
        for _ in range(WAITS):
            await pilot.pause(0.01)
            if model.entries and model.entries == model.total:
                break
        for name, number in PICTURES.items():
            app.show_screen(number)
            app.zoomed = size[0] < 120
            await pilot.pause()
            app.renew()
            await pilot.pause()
            file = folder / f"{name}.svg"
            shown = app.export_screenshot(title=f"moevolve watch: {name}", simplify=True)
            file.write_text(standalone(shown), encoding="utf-8")
            written.append(file)
    session.close()
    return written


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m moevolve_tui.pictures", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--size", default="100x30", help="columns and rows (default: 100x30)")
    parser.add_argument("--theme", default="textual-dark", help="default: textual-dark")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    width, height = map(int, options.size.split("x"))
    for file in asyncio.run(draw(options.run, options.folder, (width, height), options.theme)):
        print(file)
    file = options.folder / "quickstart.cast"
    file.write_text(cast(options.run, (width, height)), encoding="utf-8")
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
