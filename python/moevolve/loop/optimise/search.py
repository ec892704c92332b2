"""What is evaluated next: a function of the records before it, whoever evaluates and however long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache, partial
from random import Random
from typing import Literal

import msgspec
from blake3 import blake3

from moevolve.agents.genome import Genome
from moevolve.errors import MoevolveError
from moevolve.journal.store import RunStore
from moevolve.loop.optimise import proposers, rule
from moevolve.loop.optimise.archive import Program, ProgramArchive
from moevolve.loop.optimise.proposers import OPERATORS, Brief, ProgramProposer, Proposal
from moevolve.loop.optimise.settings import Settings
from moevolve.loop.variants import encode, genome_in
from moevolve.proposers.answers import Unusable
from moevolve.randomness import key, rng
from moevolve.records import Rated, Record, VariantAdded
from moevolve.selection.policy import Budget, Draw, Evaluate
from moevolve.selection.table import policy
from moevolve.tasks.evaluators.folder import LARGEST_PROGRAM, EvaluatorFolder
from moevolve.tasks.evaluators.marks import outside
from moevolve.tasks.evaluators.verdict import Evaluation

MODEL = "model"
FIRST = "v0"
"""The first program."""
TRIES = 8
"""Draws of an operator until a program is new."""
OTHERS = 4
"""Good programs that a proposer sees beside its parent and the champion."""
CACHED = 512
"""Programs' texts that are kept at hand, at least."""
NO_IDEA = ("rejected", "no proposer has an idea")
RECENT = 3
"""Failures that a proposer hears of, the newest."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation that is to be made, or a proposal that is not worth one."""

    evaluation: int
    variant: str
    purpose: Literal["candidate", "recheck"]
    text: str
    parent: str | None = None
    operator: str = ""
    summary: str = ""
    refused: str | None = None
    """Why it is not evaluated: `duplicate` or `rejected`."""
    detail: str = ""


class Search:
    """The course of one optimisation run.

    Args:
        settings: of the run.
        folder: the evaluator's.
        store: where programs lie.
        archive: what is on record.
        model: the proposer `model`, where the run has one.
        modelled: evaluations that the model was asked for, in a replay: there a user's own proposers are not asked, their
            programs come from the record. None outside of one.
    """

    def __init__(
        self,
        settings: Settings,
        folder: EvaluatorFolder,
        store: RunStore,
        archive: ProgramArchive,
        model: ProgramProposer | None = None,
        *,
        modelled: Collection[int] | None = None,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._archive = archive
        self._policy = policy(settings.selection)
        self._proposers = [
            model
            if name == MODEL and model is not None
            else proposers.proposer(name)
            if modelled is None or name in OPERATORS
            else partial(_nobody, modelled)
            for name in settings.proposers
        ]
        self._features = [name for name in folder.settings.get("features", []) if name != "complexity"]
        self._known = {program.text for program in archive.programs.values()}
        self._failures: list[str] = []
        self._store = store
        self._texts: dict[str, str] = {}

    def text(self, program: str) -> str:
        """The program of this hash."""
        found = self._texts.get(program)
        if found is None:
            found = genome_in(self._store, program).files[self._folder.program]
            self._remember(program, found)
        return found

    def _remember(self, program: str, text: str) -> None:
        self._texts[program] = text
        while len(self._texts) > max(CACHED, 2 * self._settings.population):
            del self._texts[next(iter(self._texts))]

    def take(self, record: Record) -> None:
        """Takes a record of the run."""
        self._archive.take(record)
        if isinstance(record, VariantAdded):
            self._known.add(record.program)
            self._archive.programs[record.variant].length = len(self.text(record.program))
        elif isinstance(record, Rated) and record.failure is not None:
            self._failures = [*self._failures, f"{record.failure}: {record.detail}"[:500]][-RECENT:]

    def due(self, evaluation: int) -> int:
        """How many evaluations have to be on record before this one is planned."""
        return 0 if evaluation == 0 else max(1, evaluation - self._settings.in_flight + 1)

    def plan(self, evaluation: int, begun: Sequence[Plan]) -> Plan:
        """The evaluation of this number.

        Args:
            begun: evaluations before it that are not on record yet.
        """
        if evaluation == 0:
            return Plan(evaluation=0, variant=FIRST, purpose="candidate", text=self._folder.initial())
        pending = Counter(each.variant for each in begun)
        wanted = rule.wanted(self._archive, self._settings.fresh, pending)
        if wanted is None and self._settings.null == "best_of":
            return self._child(evaluation, FIRST, begun)
        if wanted is None:
            tree = self._archive.tree(
                evaluation, shares=self._settings.selection == "hgm", features=self._features
            )
            draw = Draw(self._settings.seed, 0, "select", evaluation)
            budget = Budget(self._settings.evaluations, evaluation)
            action = self._policy.decide(tree, draw, budget)
            if not isinstance(action, Evaluate):
                return self._child(evaluation, action.node, begun)
            wanted = action.node
        text = self.text(self._archive.programs[wanted].text)
        return Plan(evaluation=evaluation, variant=wanted, purpose="recheck", text=text)

    def _child(self, evaluation: int, parent: str, begun: Sequence[Plan]) -> Plan:
        name = self._settings.proposers[evaluation % len(self._proposers)]
        order = [evaluation % len(self._proposers)]
        order += [number for number in range(len(self._proposers)) if number not in order]
        brief = self._brief(evaluation, parent)
        under_way = {hash_of(self._folder, each.text) for each in begun}
        found: Proposal | None = None
        fault: tuple[str, str] | None = NO_IDEA
        for number in order:
            name = self._settings.proposers[number]
            for attempt in range(TRIES if name in OPERATORS else 1):
                draws = rng(self._settings.seed, evaluation, "propose", number, attempt)
                try:
                    proposal = _plain(self._proposers[number](brief, draws))
                except Unusable as error:
                    found, fault = None, ("rejected", str(error)[:500])
                    break
                except (Exception, SystemExit) as error:  # noqa: BLE001  a user's own proposer
                    if isinstance(error, MoevolveError) and name in (MODEL, *OPERATORS):
                        raise
                    found, fault = None, ("rejected", _raised(name, error))
                    break
                if proposal is None:
                    break
                found, fault = proposal, self._fault(proposal.text, brief.parent, under_way)
                if fault is None:
                    break
            if found is not None or fault != NO_IDEA:
                break
        return Plan(
            evaluation=evaluation,
            variant=f"v{evaluation}",
            purpose="candidate",
            text=found.text if found is not None else brief.parent,
            parent=parent,
            operator=found.operator if found is not None else name,
            summary=found.summary if found is not None else "",
            refused=fault[0] if fault else None,
            detail=fault[1] if fault else "",
        )

    def _brief(self, evaluation: int, parent: str) -> Brief:
        archive = self._archive
        program = archive.programs[parent]
        if self._settings.null is not None:
            # Nothing of the search but the parent reaches a null's proposer.
            return self._told(evaluation, program, best=self.text(program.text), others=[], failures=())
        best = sorted(archive.members, key=archive.value, reverse=True)[: OTHERS + 2]
        others = [id for id in best if id not in (parent, archive.champion)][:OTHERS]
        return self._told(
            evaluation,
            program,
            best=self.text(archive.best().text),
            others=[self.text(archive.programs[id].text) for id in others],
            failures=self._failures,
        )

    def _told(
        self, evaluation: int, program: Program, *, best: str, others: list[str], failures: Sequence[str]
    ) -> Brief:
        return Brief(
            parent=self.text(program.text),
            score=program.score,
            metrics=dict(program.metrics),
            best=best,
            others=others,
            task=self._folder.task,
            evaluation=evaluation,
            evaluations=self._settings.evaluations,
            failures=tuple(failures),
        )

    def _fault(self, text: str, parent: str, under_way: set[str]) -> tuple[str, str] | None:
        if "\0" in text:
            return "rejected", "a program is a text without NUL characters"
        if self._settings.marks and outside(text) != outside(parent):
            return "rejected", "something outside of the EVOLVE-BLOCK marks was changed"
        if (name := hash_of(self._folder, text)) in self._known or name in under_way:
            return "duplicate", "this program was proposed before"
        return None

    def records(self, plan: Plan, found: Evaluation) -> list[Record]:
        """The records of an evaluation, which the archive has taken: the program's, the verdict, and a decision if one is
        ripe."""
        records: list[Record] = []
        if plan.purpose == "candidate":
            # It is in the store only once these records are.
            self._remember(hash_of(self._folder, plan.text), plan.text)
            records.append(
                VariantAdded(
                    variant=plan.variant,
                    parents=[plan.parent] if plan.parent else [],
                    cycle=plan.evaluation,
                    level="program" if plan.parent else "seed",
                    weights="",
                    program=hash_of(self._folder, plan.text),
                    operator=plan.operator,
                    summary=plan.summary,
                    score=found.score,
                )
            )
        records.append(
            Rated(
                evaluation=plan.evaluation,
                variant=plan.variant,
                purpose=plan.purpose,
                score=found.score,
                failure=plan.refused or found.failure,
                detail=(plan.detail or found.detail)[-500:],
                metrics=found.metrics,
            )
        )
        for record in records:
            self.take(record)
        while (decision := rule.decision(self._archive, self._settings.fresh)) is not None:
            records.append(decision)
            self.take(decision)
        return records

    def key(self, evaluation: int) -> int:
        """What generators inside an evaluation start from."""
        return key(self._settings.seed, evaluation, "evaluate")


def _plain(proposal: Proposal | None) -> Proposal | None:
    """A proposal as it can be put on record.

    Raises:
        Unusable: a part of it is no text, or no Unicode, or the program is too large.
    """
    if proposal is None:
        return None
    words = []
    for part in ("text", "operator", "summary"):
        value = getattr(proposal, part)
        if not isinstance(value, str):
            raise Unusable(f"a proposal's {part} is {type(value).__name__}, not a text")
        try:
            words.append(str.encode(value, "utf-8").decode())
        except UnicodeEncodeError as error:
            raise Unusable(f"a proposal's {part} has at {error.start} what is no Unicode") from None
    if len(words[0].encode()) > LARGEST_PROGRAM:
        raise Unusable(f"the program has more than {LARGEST_PROGRAM >> 10} KiB")
    return Proposal(words[0], words[1][:60], words[2][:500])


def _raised(name: str, error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  a user's own exception
        said = "no text"
    return f"{name} raised {type(error).__name__}: {said}".encode("utf-8", "replace").decode()[:500]


def _nobody(modelled: Collection[int], brief: Brief, rng: Random) -> None:
    """Stands in for a user's own proposer in a replay: it had no idea where the model was asked.

    Raises:
        Unusable: the model was not asked, and so must not be now; the record has the program.
    """
    if brief.evaluation not in modelled:
        raise Unusable("a proposer's program is on record")


def blob(folder: EvaluatorFolder, text: str) -> bytes:
    """A program as stored."""
    return encode(Genome(files={folder.program: text}))


@lru_cache(maxsize=1024)
def _hash(name: str, text: str) -> str:
    return blake3(encode(Genome(files={name: text}))).hexdigest()


def hash_of(folder: EvaluatorFolder, text: str) -> str:
    """The name of a program's text in the store."""
    return _hash(folder.program, text)
