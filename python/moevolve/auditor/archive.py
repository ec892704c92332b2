"""The archive of a run and where its champion comes from: who wrote which line, which attempts trained which weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

import msgspec

from moevolve.auditor.findings import Findings
from moevolve.records import (
    AGAIN_STAGE,
    Ablated,
    Attempted,
    Chosen,
    Controlled,
    CycleFinished,
    Gated,
    Improved,
    Learned,
    Proposed,
    Record,
    RolledBack,
    RunStarted,
    Selected,
    Trained,
    VariantAdded,
)


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbouring lines of a file that one variant brought in."""

    first: int
    """Counted from 1."""
    last: int
    variant: str
    operator: str
    cycle: int
    proposer: str
    """Whose `improve.py` proposed it; empty for what was shipped."""


class TrainingFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One learning stage behind the champion's weights, as far as records say."""

    variant: str
    cycle: int
    weights: str
    operator: str
    attempts: dict[str, int]
    """Attempts of the cycle by their source, `direct` and `program`."""
    confirmed: int | None
    buffer: int | None
    steps: int
    tokens: int


class ChampionFigures(msgspec.Struct, kw_only=True):
    """The champion in the report."""

    variant: str
    weights: str
    program: str
    lineage: list[str]
    """Variants that its program comes from, from the first on."""
    files: dict[str, list[Lines]] = {}
    trained: list[TrainingFigures] = []
    missing: list[str] = []
    """Variants of its lineage whose programs could not be read."""


class _Cycle(msgspec.Struct):
    attempts: dict[str, int] = {}
    confirmed: int | None = None
    buffer: int | None = None
    steps: int = 0
    tokens: int = 0


class Archive:
    """Variants of a run in order.

    Args:
        findings: takes what is wrong.

    Attributes:
        champion: the current one.
        variants: by name.
        promoted: every variant that was champion, in order.
        weights: weights -> hash of their file's bytes, None where none is on record.
    """

    def __init__(self, findings: Findings) -> None:
        self.champion = ""
        self.variants: dict[str, VariantAdded] = {}
        self.promoted: list[str] = []
        self.weights: dict[str, str | None] = {}
        self.started: RunStarted | None = None
        self._findings = findings
        self._cycles: dict[int, _Cycle] = {}
        self._awaited: set[str] = set()

    def take(self, seq: int, record: Record) -> None:
        """Follows the run by one record."""
        where = f"record {seq}"
        match record:
            case RunStarted():
                if self.started is not None or seq:
                    self._findings.mismatch("archive", where, "a run starts in the middle of its journal")
                self.started = record
                self._crown(record.champion)
            case VariantAdded():
                self._added(where, record)
            case Proposed():
                self._awaited |= {record.variant} if record.level == "weights" else set()
                if record.variant not in self.variants or record.parent not in self.variants:
                    self._findings.mismatch("archive", where, f"{record.variant} or its parent is unknown")
            case Selected():
                if record.variant not in self.variants:
                    self._findings.mismatch("archive", where, f"{record.variant} was selected and is unknown")
                if record.selector and record.selector not in self.variants:
                    self._findings.mismatch("archive", where, f"{record.selector} selected and is unknown")
                if bool(record.selector) != (record.policy == "genome" or bool(record.fault)):
                    self._findings.mismatch(
                        "archive", where, "a choice is said to be a program's and is none's"
                    )
            case Chosen(chosen=str(name)):
                self._awaited.add(name)
                if name not in self.variants:
                    self._findings.mismatch("archive", where, f"{name} was chosen and is unknown")
            case Gated():
                self._awaited.discard(record.candidate)
                for name in (record.candidate, record.champion):
                    if name not in self.variants:
                        self._findings.mismatch("archive", where, f"{name} is unknown")
                if record.decision == "promote":
                    self._crown(record.candidate)
            case Improved(decision="promote"):
                self._crown(record.candidate)
            case RolledBack():
                if record.champion != self.champion:
                    self._crown(record.champion)
            case Controlled():
                # A person's word makes a champion by an approval that was carried out, and by nothing else.
                approved = record.done and record.command == "approve"
                champion = record.variant if approved else self.champion
                self._findings.same("archive", where, "the champion", record.champion, champion)
                if champion != self.champion:
                    self._crown(champion)
            case Ablated():
                self._ablated(where, record)
            case CycleFinished():
                for name in sorted(self._awaited):
                    self._findings.mismatch(
                        "gate", where, f"{name} went to the gate, and no decision is on record"
                    )
                self._awaited.clear()
            case Attempted():
                cycle = self._cycle(record.cycle)
                tried = sum(tally.attempts for tally in record.tallies)
                kind = AGAIN_STAGE if record.stage == AGAIN_STAGE else record.source
                cycle.attempts[kind] = cycle.attempts.get(kind, 0) + tried
            case Learned():
                cycle = self._cycle(record.cycle)
                cycle.confirmed, cycle.buffer = record.confirmed, record.buffer
            case Trained():
                cycle = self._cycle(record.cycle)
                cycle.steps, cycle.tokens = record.steps, cycle.tokens + record.tokens
            case _:
                pass

    def lineage(self, name: str) -> list[VariantAdded]:
        """Where a variant's program comes from, from the first variant on: each has another program than the one before."""
        chain: list[VariantAdded] = []
        variant = self.variants.get(name)
        seen: set[str] = set()
        while variant is not None and variant.variant not in seen:
            seen.add(variant.variant)
            origin = self._origin(variant)
            if not chain or chain[-1].variant != origin.variant:
                chain.append(origin)
            seen.add(origin.variant)
            variant = self.variants.get(origin.parents[0]) if origin.parents else None
        return chain[::-1]

    def provenance(self, programs: Mapping[str, Mapping[str, str]]) -> ChampionFigures | None:
        """The champion's lines and weights.

        Args:
            programs: the files of its lineage's programs, by content hash.
        """
        champion = self.variants.get(self.champion)
        if champion is None:
            return None
        lineage = self.lineage(champion.variant)
        figures = ChampionFigures(
            variant=champion.variant,
            weights=champion.weights,
            program=champion.program,
            lineage=[variant.variant for variant in lineage],
            missing=[
                variant.variant for variant in lineage if variant.program and variant.program not in programs
            ],
            trained=self._trained(champion),
        )
        blamed: dict[str, list[tuple[str, VariantAdded]]] = {}
        for variant in lineage:
            files = programs.get(variant.program)
            if files is not None:
                blamed = {
                    path: _blame(blamed.get(path, []), text.splitlines(), variant)
                    for path, text in sorted(files.items())
                }
        figures.files = {path: _ranges(lines) for path, lines in blamed.items()}
        return figures

    def _ablated(self, where: str, record: Ablated) -> None:
        """Of promoted weights: with whose program they were scored, and with which one that was made for them."""
        weights, found = self.variants.get(record.weights), self.variants.get(record.variant or "")
        if weights is None or weights.level != "weights" or record.weights not in self.promoted:
            self._findings.mismatch("archive", where, f"{record.weights} are no weights that were promoted")
            return
        self._findings.same("archive", where, "the program they came with", record.program, weights.program)
        if record.variant is not None and (found is None or found.weights != weights.weights):
            self._findings.mismatch(
                "archive", where, f"{record.variant} is no program that was made for {record.weights}"
            )
        self._findings.same(
            "archive", where, "whether it was promoted", record.promoted, record.variant == self.champion
        )

    def _added(self, where: str, record: VariantAdded) -> None:
        if record.variant in self.variants:
            self._findings.mismatch("archive", where, f"{record.variant} is added twice")
        for parent in record.parents:
            if parent not in self.variants:
                self._findings.mismatch(
                    "archive", where, f"{parent}, a parent of {record.variant}, is unknown"
                )
        if not record.parents and self.variants:
            self._findings.mismatch("archive", where, f"{record.variant} has no parent")
        self.variants[record.variant] = record
        known = self.weights.get(record.weights)
        if known is not None and record.weights_file not in (None, known):
            self._findings.mismatch(
                "archive", where, f"two files are on record for weights {record.weights[:16]}"
            )
        self.weights[record.weights] = record.weights_file or known

    def _crown(self, name: str) -> None:
        self.champion = name
        self.promoted.append(name)

    def _cycle(self, number: int) -> _Cycle:
        return self._cycles.setdefault(number, _Cycle())

    def _origin(self, variant: VariantAdded) -> VariantAdded:
        """The variant that brought a program in: the first that had it."""
        return next(each for each in self.variants.values() if each.program == variant.program)

    def _trained(self, champion: VariantAdded) -> list[TrainingFigures]:
        """Learning stages behind a variant's weights, from the first on."""
        stages: list[TrainingFigures] = []
        weights, seen = champion.weights, set[str]()
        while weights not in seen:
            seen.add(weights)
            origin = next(each for each in self.variants.values() if each.weights == weights)
            if origin.level != "weights":
                break
            cycle = self._cycle(origin.cycle)
            stages.append(
                TrainingFigures(
                    variant=origin.variant,
                    cycle=origin.cycle,
                    weights=origin.weights,
                    operator=origin.operator,
                    attempts=dict(sorted(cycle.attempts.items())),
                    confirmed=cycle.confirmed,
                    buffer=cycle.buffer,
                    steps=cycle.steps,
                    tokens=cycle.tokens,
                )
            )
            weights = self._learner(origin) or weights
        return stages[::-1]

    def _learner(self, variant: VariantAdded) -> str | None:
        """The weights that a variant's were trained from: its first parent's, or another parent's whose program it lacks."""
        parents = [self.variants[name] for name in variant.parents if name in self.variants]
        if not parents:
            return None
        others = [
            parent
            for parent in parents[1:]
            if parent.weights != parents[0].weights and parent.program != variant.program
        ]
        if not others and len(parents) > 1 and parents[0].program == variant.program:
            others = parents[1:]
        return (others or parents)[0].weights


def _blame(
    before: Sequence[tuple[str, VariantAdded]], after: Sequence[str], variant: VariantAdded
) -> list[tuple[str, VariantAdded]]:
    """The lines of a file with the variant that wrote each: kept ones stay whose they were."""
    blamed = [(line, variant) for line in after]
    matcher = SequenceMatcher(None, [line for line, _ in before], after, autojunk=False)
    for block in matcher.get_matching_blocks():
        blamed[block.b : block.b + block.size] = before[block.a : block.a + block.size]
    return blamed


def _ranges(lines: Sequence[tuple[str, VariantAdded]]) -> list[Lines]:
    ranges: list[Lines] = []
    for number, (_, variant) in enumerate(lines, 1):
        if ranges and ranges[-1].variant == variant.variant:
            ranges[-1] = msgspec.structs.replace(ranges[-1], last=number)
            continue
        ranges.append(
            Lines(
                first=number,
                last=number,
                variant=variant.variant,
                operator=variant.operator,
                cycle=variant.cycle,
                proposer=variant.parents[0] if variant.parents else "",
            )
        )
    return ranges
