"""The view model: what the panes show of a run, folded from its journal, record by record.

No terminal here: a test feeds entries and reads the fields. Every text that a program may have written is
made harmless on its way in.
"""

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from moevolve.journal.intervals import mastered_level
from moevolve.records import (
    Arm,
    Attempted,
    CycleFinished,
    CycleStarted,
    Entry,
    Evaluated,
    Gated,
    Interval,
    Learned,
    Proposed,
    Record,
    RolledBack,
    RunFinished,
    RunStarted,
    Screened,
    SkillScore,
    State,
    Status,
    Trained,
    VariantAdded,
)
from moevolve_tui.drawing.lines import Tone
from moevolve_tui.sentences import sentence
from moevolve_tui.untrusted import plain

Fate = Literal["seed", "proposed", "screened", "promoted", "archived", "discarded"]
_FATES: dict[str, Fate] = {"promote": "promoted", "archive": "archived", "discard": "discarded", "void": "archived"}


@dataclass
class Point:
    """One evaluation on the curve."""

    cycle: int
    split: Literal["sealed", "dev"]
    when: Literal["initial", "cycle", "final"]
    score: Interval


@dataclass
class SkillView:
    """A leaf of the tree: its first evaluation and its latest."""

    path: str
    before: SkillScore | None = None
    now: SkillScore | None = None
    attempts: int = 0
    successes: int = 0
    range: tuple[int, int] = (1, 1)
    levels: tuple[int, int] | None = None


@dataclass
class VariantView:
    """A node of the archive. `gain` is the gate's mean paired difference, None before the gate."""

    variant: str
    parent: str | None = None
    cycle: int = 0
    level: Literal["weights", "program", "seed"] = "program"
    what: str = ""
    fate: Fate = "proposed"
    screening: float | None = None
    gain: float | None = None
    tasks: int = 0
    reason: str = ""


@dataclass
class LogLine:
    """One record in the log; `at` is seconds since the run's first entry."""

    seq: int
    at: float
    text: str
    tone: Tone


@dataclass
class RunModel:
    """Everything the panes show. `fold` is the one way in for records, `observe` for the writer's state."""

    run: str = ""
    seed: int = 0
    arm: Arm | None = None
    suite: str = ""
    parameters: int = 0
    planned: int | None = None
    """Cycles that the run means to do; None when only minutes limit it."""
    cycle: int = 0
    champion: str = ""
    points: list[Point] = field(default_factory=list)
    skills: dict[str, SkillView] = field(default_factory=dict)
    variants: dict[str, VariantView] = field(default_factory=dict)
    promotions: list[tuple[int, Literal["weights", "program"]]] = field(default_factory=list)
    decisions: dict[str, list[int]] = field(default_factory=lambda: {"weights": [0, 0], "program": [0, 0]})
    """Level -> [accepted, decided]."""
    lessons: int = 0
    generated: int = 0
    trained: int = 0
    loss: float | None = None
    log: list[LogLine] = field(default_factory=list)
    entries: int = 0
    seconds: float = 0.0
    status: Status | Literal["waiting"] = "waiting"
    stage: str = ""
    done: float | None = None
    eta: float | None = None
    error: str = ""
    finished: bool = False
    """The journal holds the run's end, whatever its state says."""
    revision: int = 0
    """Grows with every change, so that a drawing can be kept until it is stale."""

    def fold(self, entry: Entry) -> None:
        """Takes the next journal entry."""
        self._take(entry.record)
        text, tone = sentence(entry.record)
        self.log.append(LogLine(entry.seq, entry.timing.at, text, tone))
        self.seconds = max(self.seconds, entry.timing.at)
        self.entries = entry.seq + 1
        self.revision += 1

    def observe(self, state: State | None, alive: bool) -> None:
        """Takes what the writer says of itself. Running without a living writer means stopped."""
        if state is None:
            self.status = "running" if alive else "stopped" if self.entries else "waiting"
        else:
            gone = not alive and state.status in ("running", "paused")
            resumed = alive and state.status == "stopped"
            self.status = "stopped" if gone else "running" if resumed else state.status
            self.stage = plain(state.stage)
            self.done = state.done
            self.eta = state.eta if self.status == "running" else None
            self.error = plain(state.error or "")
            self.seconds = max(self.seconds, state.seconds)
        if self.finished:
            self.status = "finished"
        self.revision += 1

    def _take(self, record: Record) -> None:
        match record:
            case RunStarted():
                self.run, self.seed, self.arm = plain(record.run), record.seed, record.arm
                self.suite, self.parameters = plain(record.suite), record.parameters
                self.champion = record.champion
                self.planned = planned_cycles(record.config)
                for leaf in record.skills:
                    self._skill(leaf.path).range = leaf.levels
            case VariantAdded():
                node = self._variant(record.variant)
                node.parent, node.cycle, node.level = (
                    next(iter(record.parents), None),
                    record.cycle,
                    record.level,
                )
                node.what = plain(record.summary or record.operator)
                node.screening = record.score if record.score is not None else node.screening
                if record.level == "seed":
                    node.fate = "seed"
            case Evaluated():
                self.points.append(Point(record.cycle, record.split, record.when, record.score))
                for path, share in record.skills.items():
                    skill = self._skill(path)
                    skill.before = skill.before or share
                    skill.now = share
                    cells = {t.level: (t.successes, t.attempts) for t in record.tallies if t.skill == path}
                    if cells:
                        level = mastered_level(cells, skill.range)[0]
                        skill.levels = (skill.levels[0] if skill.levels else level, level)
            case CycleStarted():
                self.cycle, self.champion = record.cycle, record.champion
            case Attempted():
                for tally in record.tallies:
                    skill = self._skill(tally.skill)
                    skill.attempts += tally.attempts
                    skill.successes += tally.successes
            case Learned():
                self.lessons += record.lessons
            case Trained():
                self.loss = record.loss
            case Proposed():
                node = self._variant(record.variant)
                node.parent, node.cycle, node.level = record.parent, record.cycle, record.level
                node.what = plain(record.summary or record.operator)
            case Screened():
                node = self._variant(record.variant)
                node.screening = record.score
                if not record.passed and node.fate == "proposed":
                    node.fate = "screened"
            case Gated():
                self._decide(record)
            case RolledBack():
                self.champion = record.champion
            case CycleFinished():
                self.champion = record.champion
                self.generated, self.trained = record.tokens_generated, record.tokens_trained
                self.lessons = record.lessons
            case RunFinished():
                self.champion = record.champion
                self.finished = True
            case _:
                pass

    def _decide(self, record: Gated) -> None:
        node = self._variant(record.candidate)
        node.parent, node.cycle, node.level = node.parent or record.champion, record.cycle, record.level
        node.fate = _FATES[record.decision]
        node.gain, node.tasks, node.reason = record.gain, record.n, plain(record.reason)
        tally = self.decisions[record.level]
        tally[1] += 1
        if record.decision == "promote":
            tally[0] += 1
            self.champion = record.candidate
            self.promotions.append((record.cycle, record.level))

    def _skill(self, path: str) -> SkillView:
        path = plain(path)
        return self.skills.setdefault(path, SkillView(path))

    def _variant(self, name: str) -> VariantView:
        return self.variants.setdefault(name, VariantView(name))

    def initial(self) -> Interval | None:
        """The sealed score before the first cycle."""
        return next(
            (point.score for point in self.points if point.when == "initial" and point.split == "sealed"),
            None,
        )

    def latest(self) -> Point | None:
        """The newest evaluation, if one came after the initial one."""
        return next((point for point in reversed(self.points) if point.when != "initial"), None)


def planned_cycles(config: str) -> int | None:
    """`cycles` of a run's configuration, at the top or one table down. None when unset or unlimited."""
    try:
        table = msgspec.json.decode(config)
    except msgspec.DecodeError:
        return None
    tables = [table, *table.values()] if isinstance(table, dict) else []
    for candidate in tables:
        cycles = candidate.get("cycles") if isinstance(candidate, dict) else None
        if isinstance(cycles, int) and cycles > 0:
            return cycles
    return None
