"""A language model as proposer: it writes files, edits them, joins programs, reads traces, mends what it broke, and keeps a
rubric of what edits have to heed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

from moevolve.agents.brief import Brief
from moevolve.agents.genome import SELECTOR, Genome, editable
from moevolve.agents.host import Proposals
from moevolve.agents.manifest import manifest_of
from moevolve.config.roles import RoleSection
from moevolve.errors import UsageError
from moevolve.proposers.answers import Unusable, replaced, summary, whole
from moevolve.proposers.prompting import CRITERIA, FOLDER, Told, messages
from moevolve.proposers.proposer import ProposalContext
from moevolve.proposers.rubric import grown
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import GenerateRequest, Unanswered
from moevolve.protocol.sampling import Sampling
from moevolve.randomness import key
from moevolve.records import Edit

WEIGHTS = {"rewrite": 1.0, "edit": 1.0, "reflect": 1.0, "cross": 0.5, "rubric": 0.25}
"""How often each kind of prompt is drawn at first."""
GAINED, LOST = 1.5, 0.8
"""Factors on a kind's weight, for each of its edits that gained, and for each that did not."""
LIGHTEST, HEAVIEST = 0.1, 8.0
MENDS = 1
"""Times that an edit which does not work is sent back with the reason."""
TEMPERATURE = 0.8
FILES = {"solve.py": 4.0, "improve.py": 1.0, "learn.py": 0.0, SELECTOR: 1.0, "agent.toml": 0.0}
"""How often a file is drawn; others count 2."""


class _Draft(msgspec.Struct):
    """One candidate on its way."""

    kind: str
    path: str
    source: str
    """The file that an answer is an edit of."""
    edit: Edit | None = None
    fault: str | None = None


class LanguageModel:
    """Edits by a language model; an answer that is no edit, does not compile or does nothing costs what it took, no more.

    Args:
        role: what one generation may spend.
    """

    def __init__(self, role: RoleSection) -> None:
        self._role = role

    def propose(self, brief: Brief, context: ProposalContext) -> Proposals:
        rng = Random(context.key)
        paths = _paths(context.program)
        if not paths:
            return Proposals([], "error", "every file of the program is frozen", 0, 0)
        weights = weighed(brief)
        if context.other is None:
            del weights["cross"]
        if not brief.failures or not manifest_of(context.program.files).editable(CRITERIA):
            del weights["rubric"]
        drafts = []
        for _ in range(brief.candidates):
            kind = rng.choices(list(weights), list(weights.values()))[0]
            path = rng.choices(list(paths), list(paths.values()))[0]
            path = CRITERIA if kind == "rubric" else path
            drafts.append(_Draft(kind, path, context.program.files.get(path, "")))
        self.requests = self.tokens = 0
        self._refused: str | None = None
        self._write(drafts, brief, context, 0)
        for turn in range(1, MENDS + 1):
            broken = [draft for draft in drafts if draft.edit is not None and draft.fault is not None]
            for draft in broken:
                assert draft.edit is not None
                draft.kind, draft.source = "mend", draft.edit.text
            self._write(broken, brief, context, turn)
        candidates = [[draft.edit] for draft in drafts if draft.edit is not None and draft.fault is None]
        faults = [f"{draft.kind}: {draft.fault}" for draft in drafts if draft.fault is not None]
        failure = None if candidates or not faults else "rejected" if self._refused else "malformed"
        return Proposals(candidates, failure, self._refused or "", self.tokens, self.requests, faults)

    def _write(self, drafts: Sequence[_Draft], brief: Brief, context: ProposalContext, turn: int) -> None:
        """Asks for each draft, and reads what comes of it."""
        asked: list[tuple[_Draft, GenerateRequest]] = []
        for index, draft in enumerate(drafts):
            prompt = self._prompt(draft, brief, context)
            if prompt is None:
                draft.fault = (
                    f"the prompt is longer than roles.proposer.prompt_chars, {self._role.longest_prompt}"
                )
            elif not self._granted(len(asked)):
                draft.fault = "the budget of [roles.proposer] is spent"
            else:
                sampling = Sampling(max_tokens=self._role.longest, temperature=TEMPERATURE)
                name = key(context.key, "model", turn, index)
                asked.append((draft, GenerateRequest(index, prompt, sampling, 1, name, worded=False)))
        if not asked:
            return
        replies = context.answer([request for _, request in asked])
        self.requests += len(asked)
        for (draft, _), reply in zip(asked, replies, strict=True):
            if isinstance(reply, Unanswered):
                self._refused = f"{reply.failure}: {reply.detail}"
                draft.fault = self._refused
                continue
            self.tokens += sum(completion.count for completion in reply)
            self._read(draft, reply[0].text, context)

    def _prompt(self, draft: _Draft, brief: Brief, context: ProposalContext) -> tuple[Message, ...] | None:
        other = context.other.files.get(draft.path, "") if context.other is not None else ""
        told = Told(draft.path, draft.source, draft.fault or "", other, context.other_score)
        return messages(draft.kind, brief, told, self._role.longest_prompt)

    def _granted(self, more: int) -> bool:
        """Whether one more request is within the role's limits, at worst."""
        role = self._role
        tokens = self.tokens + (more + 1) * role.longest
        return self.requests + more < role.requests and tokens <= role.tokens

    def _read(self, draft: _Draft, answer: str, context: ProposalContext) -> None:
        files = context.program.files
        try:
            text = _read(draft, answer)
        except Unusable as error:
            draft.fault = str(error)
            return
        said = summary(answer, f"{draft.kind} {draft.path}")
        edit = Edit(path=draft.path, text=text, operator=draft.kind, summary=said)
        draft.edit, draft.fault = edit, None
        if text == files.get(draft.path):
            draft.fault = "the file is as it was"
            draft.edit = None
        elif not editable(files, [edit]):
            draft.fault = f"{draft.path} is too long, or cannot be so"
        elif context.check is not None:
            try:
                draft.fault = context.check(context.program.edited([edit]))
            except UsageError as error:
                draft.fault = str(error)


def _read(draft: _Draft, answer: str) -> str:
    """The file's new text; Unusable where the answer has none."""
    if draft.kind == "edit":
        return replaced(answer, draft.source)
    if draft.kind == "rubric":
        return grown(draft.source, answer)
    return whole(answer, draft.source, python=draft.path.endswith(".py"))


def weighed(brief: Brief) -> dict[str, float]:
    """The kinds' weights after what became of their edits so far."""
    weights = dict(WEIGHTS)
    for trial in brief.history:
        if trial.operator in weights:
            moved = weights[trial.operator] * (GAINED if trial.gain > 0 else LOST)
            weights[trial.operator] = min(HEAVIEST, max(LIGHTEST, moved))
    return weights


def _paths(program: Genome) -> dict[str, float]:
    """Files that may be edited, with how often each is drawn."""
    manifest = manifest_of(program.files)
    found = {
        path: FILES.get(path, 1.0 if path.startswith(FOLDER) else 2.0)
        for path in sorted(program.files)
        if manifest.editable(path)
    }
    return {path: weight for path, weight in found.items() if weight}
