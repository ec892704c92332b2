"""Screen 8: where the time and the money went, which process writes, on what machine."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

from moevolve.errors import MoevolveError
from moevolve.journal.figures import UNKNOWN, amount, duration, money
from moevolve.journal.text import line
from moevolve.records import Session
from moevolve_tui.drawing.rows import Row, fit, pair, rule, table
from moevolve_tui.pages import evaluations
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import ActionTarget

WORK = {
    "Attempted": "attempts",
    "Trained": "training",
    "Learned": "learning from verdicts",
    "Gated": "gate",
    "Screened": "screening",
    "Chosen": "screening",
    "VariantAdded": "proposing",
    "Proposed": "proposing",
    "Evaluated": "scoring",
    "Guarded": "guards",
    "Metered": "server",
    "Rated": "evaluating",
    "Improved": "evaluating",
}
"""Kind of record -> the work that leads to one; others are the rest."""


class SystemPage(Page):
    NAME = "System"
    NUMBER = 8

    def __init__(
        self, context: object, proc: Path = Path("/proc"), clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self._proc, self._clock = proc, clock

    def depends(self) -> tuple[object, ...]:
        model = self.context.model
        return (*super().depends(), int(self._clock() / 2) if model is not None and model.alive else 0)

    def build(self, width: int, height: int) -> list[Row]:
        model, view = self.shown, self.shown.view
        rows: list[Row] = []
        sessions = self._sessions()
        if sessions:
            last = sessions[-1]
            began = (
                time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(last.began))
                if 0 <= last.began < 1e11
                else UNKNOWN
            )
            rows += [
                pair(
                    "machine",
                    f"{line(last.host, 40)}, {last.processors} processors, {line(last.system, 60)}",
                    width,
                ),
                pair(
                    "process",
                    f"pid {last.pid}, began {began}, {len(sessions)} session{'s' * (len(sessions) != 1)} so far",
                    width,
                ),
                pair(
                    "version", f"moevolve {line(last.version) or UNKNOWN}, Python {line(last.python)}", width
                ),
            ]
        else:
            rows.append(pair("machine", f"{UNKNOWN} not noted by this run", width, "quiet"))
        rows.append(pair("now", self._process(sessions[-1] if sessions else None), width))
        rows.append(
            pair(
                "journal",
                f"{model.total:,} entries, {self._size()} on disk; {duration(model.seconds)} of work",
                width,
            )
        )
        rows += self._time(width)
        if model.optimises:
            rows += evaluations.counts_rows(model, width)
            pace = f"{60 * view.ratings.evaluations / view.seconds:,.1f}" if view.seconds > 0 else UNKNOWN
            rows.append(pair("speed", f"{pace} evaluations a minute of the whole run", width))
            rows += self._servers(width)
            return [*rows, *self._controls()]
        rows += [
            rule("Tokens", width),
            pair("drawn", f"{view.generated:,}", width),
            pair("trained", f"{view.trained:,}", width),
            pair(
                "speed",
                f"{view.generated / view.seconds:,.0f} tokens drawn a second of the whole run"
                if view.seconds > 0
                else UNKNOWN,
                width,
            ),
        ]
        rows += self._servers(width)
        return [*rows, *self._controls()]

    def _controls(self) -> list[Row]:
        """What may be asked of a run that is not over."""
        if self.shown.view.finished or self.shown.status == "deleted":
            return []
        return [Row([("p pause or resume   P stop", "mark")], ActionTarget("pause", "pause"))]

    def _sessions(self) -> list[Session]:
        folder = self.shown.folder
        try:
            return folder.sessions() if folder is not None else []
        except (MoevolveError, OSError, ValueError):
            return []

    def _process(self, session: Session | None) -> str:
        """CPU and memory of the process that writes, where it runs on this machine."""
        model = self.shown
        if not model.alive or not model.pid:
            return "no process writes this run"
        if session is None:
            return f"pid {model.pid}, on a machine that is not noted"
        if session.host != platform.node():
            return f"pid {model.pid} on {line(session.host, 40)}: another machine"
        try:
            fields = (self._proc / str(model.pid) / "stat").read_text().rpartition(")")[2].split()
            pages = int((self._proc / str(model.pid) / "statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return f"pid {model.pid}: {UNKNOWN} not to be seen from here"
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        return f"pid {model.pid}: {duration(seconds)} of CPU, {memory:,.0f} MiB, {fields[17]} threads"

    def _size(self) -> str:
        try:
            return f"{(self.shown.path / 'journal' / 'data.mdb').stat().st_blocks * 512 / 2**20:,.1f} MiB"
        except OSError:
            return UNKNOWN

    def _time(self, width: int) -> list[Row]:
        took: dict[str, float] = {}
        for kind, seconds in self.shown.view.took.items():
            name = WORK.get(kind, "rest")
            took[name] = took.get(name, 0.0) + seconds
        whole = sum(took.values())
        rows = [rule("Where the time went", width)]
        for name, seconds in sorted(took.items(), key=lambda each: -each[1]):
            share = seconds / whole if 0 < whole < math.inf else 0.0
            rows.append(
                Row(
                    fit(
                        [
                            (f"{name:<24} {duration(seconds):>9} {share:>5.0%} ", "plain"),
                            ("━" * round(share * 30), "curve"),
                        ],
                        width,
                    )
                )
            )
        return rows if took else [*rows, Row([(f"{UNKNOWN} not measured yet", "quiet")])]

    def _servers(self, width: int) -> list[Row]:
        spent = self.shown.view.spent
        if not spent.bills:
            return [Row([("no server was asked", "quiet")])]
        cost = UNKNOWN if spent.money is None else f"{money(spent.money)} {line(spent.currency)}"
        rows = [
            rule("Server", width),
            pair(
                "requests",
                f"{spent.requests:,} ({spent.reused:,} answered before), {spent.calls:,} calls, "
                f"{sum(spent.failures.values()):,} failed for good",
                width,
            ),
            pair(
                "tokens",
                f"{amount(spent.prompt_tokens)} prompt ({amount(spent.cached_tokens)} cached), "
                f"{amount(spent.completion_tokens)} completion",
                width,
            ),
            pair("cost", cost, width),
        ]
        cells = [
            [
                (each.stage, "plain"),
                (f"{each.requests:,}", "plain"),
                (amount(each.tokens), "plain"),
                (UNKNOWN if each.cost is None else money(each.cost), "plain"),
            ]
            for each in spent.stages.values()
        ]
        return [*rows, *table(cells, [20, -9, -9, -14])]  # type: ignore[arg-type]
