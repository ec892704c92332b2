"""The proposer of operators: edits of any agent, drawn from what its files offer."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from moevolve.agents.brief import Brief
from moevolve.agents.genome import editable
from moevolve.agents.host import Proposals
from moevolve.agents.manifest import manifest_of
from moevolve.proposers.operators import layers, parameters, staging, structure, wording
from moevolve.proposers.operators.crossing import crossover
from moevolve.proposers.operators.errors import OF_FAILURES
from moevolve.proposers.operators.operator import Inapplicable, Operator
from moevolve.proposers.proposer import ProposalContext
from moevolve.records import Edit

VOTE = "vote"
OPERATORS: dict[str, tuple[Operator, float]] = {
    "examples": (wording.examples, 3.0),
    "instruct": (wording.instruct, 2.0),
    "emphasise": (wording.emphasise, 1.0),
    "drop": (wording.drop, 1.0),
    "reorder": (wording.reorder, 0.5),
    "setting": (parameters.setting, 1.0),
    "constant": (parameters.constant, 0.5),
    VOTE: (structure.vote, 1.0),
    "retry": (structure.retry, 0.5),
    "revise": (structure.revise, 1.0),
    "recall": (structure.recall, 1.0),
    "remember": (layers.remember, 1.0),
    "persona": (layers.persona, 1.0),
    "checklist": (layers.checklist, 1.0),
}
"""Operators by name, with how often each is drawn at first."""
CROSSOVER = "crossover"
"""The one operator that takes from another program."""
GAINED, LOST = 1.5, 0.8
"""Factors on an operator's weight, for each of its edits that gained, and for each that did not."""
LIGHTEST, HEAVIEST = 0.1, 12.0
TRIES = 60
"""Draws for each candidate that is wanted."""


class Operators:
    """Edits by operators: deterministic, offline, and none that is frozen."""

    def propose(self, brief: Brief, context: ProposalContext) -> Proposals:
        """As many candidates as the brief asks for, if the program offers as many edits; each is one edit."""
        files = context.program.files
        manifest = manifest_of(files)
        open_files = {path: text for path, text in files.items() if manifest.editable(path)}
        rng = Random(context.key)
        weights = dict(weighed(brief))
        other = {} if context.other is None else context.other.files
        others = {path: text for path, text in other.items() if manifest.editable(path)}
        if not any(files.get(path) != text for path, text in others.items()):
            del weights[CROSSOVER]
        tried = {trial.summary for trial in brief.history}
        candidates: list[list[Edit]] = []
        for _ in range(TRIES * brief.candidates):
            if len(candidates) == brief.candidates:
                break
            name = rng.choices(list(weights), list(weights.values()))[0]
            try:
                if name == CROSSOVER:
                    changes = crossover(open_files, others, rng)
                elif name in OF_FAILURES:
                    changes = [OF_FAILURES[name][0](open_files, brief.failures, rng, manifest.boxed)]
                elif name == VOTE and manifest.boxed:
                    changes = [staging.votes(open_files, rng)]
                else:
                    changes = [OPERATORS[name][0](open_files, brief.successes, rng)]
            except Inapplicable:
                continue
            edits = [
                Edit(path=each.path, text=each.text, operator=name, summary=each.summary[:200])
                for each in changes
            ]
            said = "; ".join(edit.summary for edit in edits)
            same = all(edit.text == files.get(edit.path) for edit in edits)
            # Another program's blocks are others each time; what an operator has said before it has done before.
            if same or (said in tried and name != CROSSOVER) or not editable(files, edits):
                continue
            tried.add(said)
            candidates.append(edits)
        return Proposals(candidates, None, "", 0, 0)


def weighed(brief: Brief) -> Mapping[str, float]:
    """The operators' weights after what became of their edits so far."""
    weights = {name: weight for name, (_, weight) in OPERATORS.items()} | {CROSSOVER: 1.0}
    weights |= {name: weight for name, (_, weight) in OF_FAILURES.items()}
    for trial in brief.history:
        if trial.operator in weights:
            moved = weights[trial.operator] * (GAINED if trial.gain > 0 else LOST)
            weights[trial.operator] = min(HEAVIEST, max(LIGHTEST, moved))
    return weights
