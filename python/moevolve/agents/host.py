"""Runs programs in the sandbox and answers their requests; nothing that comes out of the process is believed.

One call, one process: all attempts of a variant run in it as coroutines, and what they ask for at one time is
one round, answered as one batch. Keys come from the attempt and the request's index, so outcomes do not
depend on which attempts share the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from moevolve.agents import kinds
from moevolve.agents.attempt import Attempt
from moevolve.agents.box.host import BoxHost
from moevolve.agents.box.records import Words
from moevolve.agents.box.workspace import Workspace, hold
from moevolve.agents.brief import ArchiveReport, Brief, LearnReport, brief_limits
from moevolve.agents.gateway import Gateway, Kind, named
from moevolve.agents.genome import BESIDE, Genome, editable, unusable
from moevolve.agents.kinds.tools import Toolbox
from moevolve.agents.kinds.workspace import MOST_SENT
from moevolve.agents.limits import Limits
from moevolve.agents.manifest import manifest_of
from moevolve.agents.plans.behaviour import Behaviour
from moevolve.agents.transcripts import Conversation, Transcripts, taken
from moevolve.agents.twice import Heard, said, steady
from moevolve.agents.wire import Start, decode_candidates, decode_edits
from moevolve.config import RolesSection, SandboxSection
from moevolve.config.roles import RoleSection
from moevolve.errors import SandboxError, UsageError
from moevolve.protocol.requests import INFRASTRUCTURE, Answer, Outcome, PublicTask, Recall
from moevolve.randomness import key
from moevolve.records import Edit, Recipe
from moevolve.tasks.cutters import GENERAL, Cutter

__all__ = ["ProgramHost", "Proposals"]

RECIPE_BOUNDS: dict[str, tuple[float, float]] = {
    "learning_rate": (1e-5, 1e-2),
    "steps": (0, 400),
    "batch": (8, 256),
    "recent": (0.0, 1.0),
    "program_share": (0.0, 1.0),
    "focus": (0.0, 1.0),
}
"""What a recipe may ask for."""

TRIES = 3
"""Times that a process is run which the machine takes away."""
_Argument = TypeVar("_Argument", Brief, LearnReport, ArchiveReport)


class Proposals(msgspec.Struct, frozen=True):
    """What an improver came up with. A failure is data: no candidates and the reason."""

    candidates: list[list[Edit]]
    failure: str | None
    detail: str
    tokens: int
    requests: int
    broken: list[str] = []
    """Candidates that were dropped, each by its reason."""


class ProgramHost:
    """Runs the three files of a program.

    Args:
        roles: what a program may spend as solver, improver and learner.
        sandbox: bounds of its processes.
        tools: what it may call; None grants nothing.
        cutters: ways to take a text apart that its plans may use.
        more: further kinds of requests, by name.
        transcripts: what programs have said already.
        boxes: who runs agents that are no function.
    """

    def __init__(
        self,
        roles: RolesSection | None = None,
        sandbox: SandboxSection | None = None,
        tools: Toolbox | None = None,
        cutters: Mapping[str, Cutter] = GENERAL,
        more: Mapping[str, Kind[Any, Any]] | None = None,
        transcripts: Transcripts | None = None,
        boxes: BoxHost | None = None,
    ) -> None:
        self.roles = roles or RolesSection()
        self.sandbox = sandbox or SandboxSection()
        self.tools = tools
        self.cutters = cutters
        self.more = dict(more or {})
        self.transcripts = transcripts or Transcripts()
        self.boxes = boxes or BoxHost()

    def solve(
        self,
        genome: Genome,
        tasks: Sequence[PublicTask],
        answer: Answer,
        recall: Recall | None,
        keys: Sequence[int],
        *,
        limits: RoleSection | None = None,
        twice: bool = False,
        workspaces: bool = False,
        policy: str = "",
        together: bool = False,
        sessions: Sequence[int] | None = None,
    ) -> list[Outcome]:
        """One attempt of `genome` on every task: of its `solve`, a coroutine that answers with texts, or of what its
        `agent.toml` names, in boxes.

        Args:
            genome: the program.
            tasks: what it sees of them.
            answer: the policy.
            recall: memory; None recalls nothing.
            keys: one key a task; all of an attempt's randomness comes from it.
            limits: what an attempt may spend; None for the host's own solver.
            twice: try again with the replies of the first try; if the program then says something else, all its attempts
                fail as `nondeterministic`. The policy is not asked again. Not of what runs in boxes: clocks are real there.
            workspaces: hold on to what attempts leave in their workspaces.
            policy: whose words `answer` gives; attempts on record are told apart by it.
            together: `answer` makes one attempt's reply of what others ask in its round, so in boxes, too, they wait for
                each other.
            sessions: one a task, whose world its calls of tools reach; None for the keys.

        Returns:
            One outcome a task, in order; whatever one attempt does, the others have theirs.

        Raises:
            SandboxError: the process cannot be started at all.
        """
        if len(tasks) != len(keys):
            raise ValueError(f"{len(tasks)} tasks and {len(keys)} keys")
        sessions = sessions or keys
        if not tasks:
            return []
        role = limits or self.roles.solver
        if manifest_of(genome.files).boxed:
            fault = unusable(genome.files)
            if fault is not None:
                raise UsageError(fault)
            table = self._table(answer, recall, lenient=False)
            # An attempt without memory is not the attempt with it, though it has the same key.
            words = Words(policy if recall is not None else f"{policy} without memory", together)
            try:
                return self.boxes.solve(
                    genome, tasks, table, keys, role, words, keep=workspaces, sessions=sessions
                )
            finally:
                self._release(sessions)
        for left in reversed(range(TRIES)):
            attempts = [
                Attempt(
                    *(task.skill, attempt_key, "solver", role, dict(task.files), session),
                    room=MOST_SENT if workspaces or task.files else 0,
                )
                for task, attempt_key, session in zip(tasks, keys, sessions, strict=True)
            ]
            nothing = msgspec.Raw(b"null")
            self._serve(
                "solve", genome, tasks, attempts, answer, recall, nothing, twice=twice, again=left > 0
            )
            if not any(attempt.failure == INFRASTRUCTURE for attempt in attempts):
                break
            # Again from the beginning: the same keys make the same attempts, whatever the machine did.
        if not workspaces:
            return [attempt.outcome() for attempt in attempts]
        return [_with_workspace(attempt, task) for attempt, task in zip(attempts, tasks, strict=True)]

    def behaviour(self, genome: Genome, verbs: Mapping[str, str], seed: int) -> Behaviour:
        """The plans that the program's `solve` returns, called once a skill with a task whose texts are opaque, and once
        more: a program that then returns something else has no plans.

        Args:
            genome: the program.
            verbs: skill -> the word that its prompts begin with.
            seed: source of the program's randomness.
        """
        if manifest_of(genome.files).boxed:
            return Behaviour({}, computes=True)
        skills = sorted(verbs)
        attempts = [
            Attempt(skill, key(seed, skill), "solver", _without(self.roles.solver, None)) for skill in skills
        ]
        tasks = [PublicTask(prompt=verbs[skill], skill=skill) for skill in skills]
        self._serve("plan", genome, tasks, attempts, None, None, msgspec.Raw(b"null"), twice=True)
        made = dict(zip(skills, attempts, strict=True))
        plans = {skill: attempt.answer for skill, attempt in made.items() if attempt.answer is not None}
        if plans and all(plan == "null" for plan in plans.values()):
            return Behaviour({}, computes=True)
        refused = {
            skill: f"{attempt.failure}: {attempt.detail}"
            for skill, attempt in made.items()
            if attempt.answer is None
        }
        return Behaviour(plans, refused)

    def improve(
        self,
        genome: Genome,
        brief: Brief,
        key: int,
        answer: Answer | None = None,
        recall: Recall | None = None,
    ) -> list[list[Edit]]:
        """Candidates that the program's own `improve.py` proposes; none if it fails. See `propose`."""
        return self.propose(genome, brief, key, answer, recall).candidates

    def propose(
        self,
        genome: Genome,
        brief: Brief,
        key: int,
        answer: Answer | None = None,
        recall: Recall | None = None,
    ) -> Proposals:
        """Lets `improve.py` propose; with `answer` it may try its ideas on the policy first.

        It gets as many candidates as the brief asks for; more are not looked at. One that is malformed, or has a file that
        no program may have, is dropped alone.
        """
        role = _without(self.roles.improver, answer)
        brief = msgspec.structs.replace(brief, limits=brief_limits(role, brief.candidates))
        attempt = self._single("improve", genome, brief, key, "improver", role, answer, recall)
        candidates: list[list[Edit]] = []
        failure, detail = attempt.failure, attempt.detail
        if failure is None:
            try:
                proposals = decode_candidates(attempt.answer or "")
            except msgspec.DecodeError as error:
                proposals, failure, detail = [], "malformed", str(error)
            for proposed in proposals[: brief.candidates]:
                try:
                    edits = [Edit(**msgspec.structs.asdict(edit)) for edit in decode_edits(proposed)]
                except msgspec.DecodeError:
                    continue
                if edits and editable(genome.files, edits):
                    candidates.append(edits)
        return Proposals(candidates, failure, detail, attempt.tokens, attempt.requests)

    def recipe(self, genome: Genome, report: LearnReport, key: int) -> Recipe:
        """What the program's `learn.py` decides, clamped to its bounds; the default recipe if it fails."""
        if "learn.py" not in genome.files:
            return Recipe()
        role = _without(self.roles.learner, None)
        attempt = self._single("recipe", genome, report, key, "learner", role, None, None)
        if attempt.failure is not None:
            return Recipe()
        try:
            asked = msgspec.json.decode(attempt.answer or "", type=dict[str, float])
        except msgspec.DecodeError:
            return Recipe()
        default = msgspec.structs.asdict(Recipe())
        chosen = {
            name: min(high, max(low, asked.get(name, default[name])))
            for name, (low, high) in RECIPE_BOUNDS.items()
        }
        return Recipe(**chosen | {"steps": int(chosen["steps"]), "batch": int(chosen["batch"])})

    def select(self, genome: Genome, report: ArchiveReport, key: int) -> Outcome:
        """What the program's `select_parent.py` answers, an id or a failure; within the limits of `[roles.learner]`."""
        role = _without(self.roles.learner, None)
        return self._single("select", genome, report, key, "learner", role, None, None).outcome()

    def _single(
        self,
        mode: str,
        genome: Genome,
        argument: _Argument,
        attempt_key: int,
        name: str,
        role: RoleSection,
        answer: Answer | None,
        recall: Recall | None,
    ) -> Attempt:
        attempt = Attempt("", attempt_key, name, role)
        nothing = [PublicTask(prompt="", skill="")]
        raw = msgspec.Raw(msgspec.json.encode(argument))
        self._serve(mode, genome, nothing, [attempt], answer, recall, raw)
        return attempt

    def _table(
        self, answer: Answer | None, recall: Recall | None, *, lenient: bool
    ) -> dict[str, Kind[Any, Any]]:
        return kinds.table(answer, recall, self.tools, self.cutters, lenient=lenient) | self.more

    def _release(self, sessions: Iterable[int]) -> None:
        """Lets go of the worlds of attempts that are over."""
        if self.tools is not None:
            self.tools.release(sessions)

    def _serve(
        self,
        mode: str,
        genome: Genome,
        tasks: Sequence[PublicTask],
        attempts: list[Attempt],
        answer: Answer | None,
        recall: Recall | None,
        argument: msgspec.Raw,
        *,
        twice: bool = False,
        again: bool = False,
    ) -> None:
        """Runs one process from its start to the end of all attempts, or to its own; `twice`, another one to compare.

        `again` says that there will be another try if the machine takes the process.
        """
        fault = unusable(genome.files)
        if fault is not None:
            _fail(attempts, "error", fault)
            return
        role = attempts[0].limits
        start = Start(
            mode=mode,
            files=_own_files(genome),
            tasks=[(task.prompt, task.skill, task.messages) for task in tasks],
            seeds=[key(attempt.key, "rng") for attempt in attempts],
            limits={
                "requests": role.requests,
                "tokens": role.tokens,
                "answer": role.answer_chars,
                "step_seconds": role.step_seconds,
            },
            argument=argument,
        )
        gateway = Gateway(self._table(answer, recall, lenient=mode != "solve"))
        limits = Limits(memory_mb=self.sandbox.memory_mb, seconds=role.most_seconds)
        most = limits.said(role, [attempt.room for attempt in attempts])
        isolation = self.sandbox.isolation if mode == "solve" else "batch"
        conversation = Conversation(self.transcripts, start, limits, self.sandbox.strict, isolation, most)
        conversation.patient = again
        heard: list[Heard] = []
        try:
            while any(attempt.open for attempt in attempts):
                asked = conversation.round()
                if twice:
                    heard.append(Heard(said(asked)))
                for done in asked.done:
                    named(attempts, done.attempt).report(done.answer, done.failure, done.detail)
                for request in asked.requests:
                    named(attempts, request.attempt).weigh(len(request.arguments))
                replies = gateway.serve(asked.requests, attempts)
                if any(attempt.open for attempt in attempts):
                    if not asked.requests:
                        raise ValueError("a round that asks nothing while attempts are open")
                    told = conversation.reply(replies)
                    if twice:
                        heard[-1].told = told
        except TimeoutError:
            _fail(attempts, "timeout", f"its process used more than {role.most_seconds:g} s")
        except ValueError as error:
            _fail(attempts, "malformed", f"its process sent no proper message: {error}"[:500])
        except SandboxError as error:
            if conversation.unable:
                raise
            _fail(attempts, INFRASTRUCTURE if taken(str(error)) else "crash", str(error)[:500])
        finally:
            conversation.close()
            self._release([attempt.session for attempt in attempts])
        lost = any(attempt.failure == INFRASTRUCTURE for attempt in attempts)
        if twice and not lost and not steady(conversation, heard):
            for attempt in attempts:
                attempt.end(None, "nondeterministic", "a second try of the same keys went another way")


def _with_workspace(attempt: Attempt, task: PublicTask) -> Outcome:
    """What became of an attempt; its files are held for a check where it changed them."""
    outcome = attempt.outcome()
    if outcome.failure is not None or attempt.files == dict(task.files):
        return outcome
    return msgspec.structs.replace(outcome, workspace=hold(Workspace(None, attempt.files)))


def _own_files(genome: Genome) -> dict[str, str]:
    """What of a program these files see beside them: an agent in a box may have modules of their names."""
    if not manifest_of(genome.files).boxed:
        return genome.files
    return {path: text for path, text in genome.files.items() if path in BESIDE}


def _without(role: RoleSection, answer: Answer | None) -> RoleSection:
    """The role's limits; without a policy it may make no requests."""
    return role if answer is not None else msgspec.structs.replace(role, requests=0)


def _fail(attempts: list[Attempt], failure: str, detail: str) -> None:
    for attempt in attempts:
        if attempt.open:
            attempt.end(None, failure, detail)
