"""Runs programs in the sandbox and answers their requests; nothing that comes out of the process is believed.

One call, one process: all attempts of a variant run in it as coroutines, and what they ask for at one time is
one round, answered as one batch. Keys come from the attempt and the request's index, so outcomes do not
depend on which attempts share the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from moevolve.agents.attempt import Attempt
from moevolve.agents.brief import Brief, LearnReport
from moevolve.agents.genome import Genome, unusable
from moevolve.agents.limits import Limits
from moevolve.agents.process import Process
from moevolve.agents.provenance import built_from
from moevolve.agents.wire import Replies, Round, Start, WireLesson, decode_candidates
from moevolve.errors import SandboxError
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import Answer, GenerateRequest, Outcome, PublicTask, Recall, Reply, Unanswered
from moevolve.protocol.sampling import Sampling
from moevolve.randomness import key
from moevolve.records import Edit, Recipe

__all__ = ["Limits", "Proposals", "ProgramHost"]

MOST_CANDIDATES = 64

RECIPE_BOUNDS: dict[str, tuple[float, float]] = {
    "learning_rate": (1e-5, 1e-2),
    "steps": (0, 400),
    "batch": (8, 256),
    "recent": (0.0, 1.0),
    "program_share": (0.0, 1.0),
    "focus": (0.0, 1.0),
}
"""What a recipe may ask for."""

_Argument = TypeVar("_Argument", Brief, LearnReport)


class Proposals(msgspec.Struct, frozen=True):
    """What an improver came up with. A failure is data: no candidates and the reason."""

    candidates: list[list[Edit]]
    failure: str | None
    detail: str
    tokens: int
    requests: int


class ProgramHost:
    """Runs the three files of a program.

    Args:
        limits: what a program may spend.
        strict: refuse to run with a sandbox layer missing.
    """

    def __init__(self, limits: Limits | None = None, strict: bool = False) -> None:
        self.limits = limits or Limits()
        self.strict = strict

    def solve(
        self,
        genome: Genome,
        tasks: Sequence[PublicTask],
        answer: Answer,
        recall: Recall | None,
        keys: Sequence[int],
        *,
        provenance: bool = True,
    ) -> list[Outcome]:
        """One attempt of `genome` on every task.

        Args:
            genome: the program.
            tasks: what it sees of them.
            answer: the policy.
            recall: memory; None recalls nothing.
            keys: one key a task; all of an attempt's randomness comes from it.
            provenance: fail answers that are not put together from the attempt's completions.

        Returns:
            One outcome a task, in order; whatever one attempt does, the others have theirs.

        Raises:
            SandboxError: the process cannot be started at all.
        """
        if len(tasks) != len(keys):
            raise ValueError(f"{len(tasks)} tasks and {len(keys)} keys")
        if not tasks:
            return []
        attempts = [
            Attempt(task.skill, attempt_key, self.limits.requests, self.limits.tokens)
            for task, attempt_key in zip(tasks, keys, strict=True)
        ]
        self._serve("solve", genome, tasks, attempts, answer, recall, msgspec.Raw(b"null"), self.limits)
        return [self._outcome(attempt, provenance) for attempt in attempts]

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

        Edits of files that no program may have are dropped with their candidate.
        """
        limits = msgspec.structs.replace(
            self.limits, requests=self.limits.improve_requests, tokens=self.limits.improve_tokens
        )
        brief = msgspec.structs.replace(brief, requests_left=limits.requests if answer else 0)
        attempt = self._single("improve", genome, brief, key, limits, answer, recall)
        candidates: list[list[Edit]] = []
        failure, detail = attempt.failure, attempt.detail
        if failure is None:
            try:
                decoded = decode_candidates(attempt.answer or "")
            except msgspec.DecodeError as error:
                decoded, failure, detail = [], "malformed", str(error)
            for proposed in decoded[:MOST_CANDIDATES]:
                edits = [Edit(**msgspec.structs.asdict(edit)) for edit in proposed]
                if edits and unusable(genome.files | {edit.path: edit.text for edit in edits}) is None:
                    candidates.append(edits)
        return Proposals(candidates, failure, detail, attempt.tokens, attempt.requests)

    def recipe(self, genome: Genome, report: LearnReport, key: int) -> Recipe:
        """What the program's `learn.py` decides, clamped to its bounds; the default recipe if it fails."""
        attempt = self._single("recipe", genome, report, key, self.limits, None, None)
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

    def _single(
        self,
        mode: str,
        genome: Genome,
        argument: _Argument,
        attempt_key: int,
        limits: Limits,
        answer: Answer | None,
        recall: Recall | None,
    ) -> Attempt:
        attempt = Attempt("", attempt_key, limits.requests if answer else 0, limits.tokens)
        raw = msgspec.Raw(msgspec.json.encode(argument))
        nothing = [PublicTask(prompt="", skill="")]
        self._serve(mode, genome, nothing, [attempt], answer or _unasked, recall, raw, limits)
        return attempt

    def _serve(
        self,
        mode: str,
        genome: Genome,
        tasks: Sequence[PublicTask],
        attempts: list[Attempt],
        answer: Answer,
        recall: Recall | None,
        argument: msgspec.Raw,
        limits: Limits,
    ) -> None:
        """Runs one process from its start to the end of all attempts, or to its own."""
        fault = unusable(genome.files)
        if fault is not None:
            _fail(attempts, "error", fault)
            return
        start = Start(
            mode=mode,
            files=genome.files,
            tasks=[(task.prompt, task.skill) for task in tasks],
            seeds=[key(attempt.key, "rng") for attempt in attempts],
            limits={name: value for name, value in msgspec.structs.asdict(limits).items() if name != "frame"}
            | {"requests": attempts[0].requests_left},
            argument=argument,
        )
        process = Process(start, limits, self.strict)
        try:
            while any(attempt.open for attempt in attempts):
                asked = process.round()
                replies = self._answer(asked, attempts, answer, recall, limits, lenient=mode != "solve")
                if any(attempt.open for attempt in attempts):
                    if not asked.requests and not asked.recalls:
                        raise ValueError("a round that asks nothing while attempts are open")
                    process.reply(replies)
        except TimeoutError:
            _fail(attempts, "timeout", f"its process used more than {limits.seconds:g} s")
        except ValueError as error:
            _fail(attempts, "malformed", f"its process sent no proper message: {error}"[:500])
        except SandboxError as error:
            _fail(attempts, "crash", str(error)[:500])
        finally:
            process.close()

    def _answer(
        self,
        asked: Round,
        attempts: list[Attempt],
        answer: Answer,
        recall: Recall | None,
        limits: Limits,
        *,
        lenient: bool,
    ) -> Replies:
        """Checks a round and answers it.

        A request that the policy leaves unanswered ends its attempt; `lenient` gives it empty texts instead, since one
        of an improver's many questions is not worth its proposals.

        Raises:
            ValueError: it names an attempt that does not exist or has ended.
        """
        for done in asked.done:
            _named(attempts, done.task).report(done.answer, done.failure, done.detail)
        texts: list[list[str] | None] = [None] * len(asked.requests)
        granted: list[tuple[int, GenerateRequest]] = []
        for place in sorted(range(len(asked.requests)), key=lambda place: asked.requests[place].task):
            wanted = asked.requests[place]
            attempt = _named(attempts, wanted.task)
            oversized = wanted.n > limits.samples or len(wanted.prompt) > limits.prompt
            if attempt.grant(oversized):
                request = GenerateRequest(
                    attempt=wanted.task,
                    prompt=wanted.prompt,
                    sampling=Sampling(
                        max_tokens=min(limits.max_tokens, max(limits.least_tokens, wanted.max_tokens)),
                        temperature=wanted.temperature,
                        top_p=wanted.top_p,
                    ),
                    n=wanted.n,
                    key=key(attempt.key, "request", attempt.requests),
                )
                granted.append((place, request))
        if granted:
            for (place, request), given in zip(granted, answer([r for _, r in granted]), strict=True):
                attempt = attempts[request.attempt]
                if isinstance(given, Unanswered) and lenient:
                    given = [Completion("", [], [], "stop")] * request.n
                if not isinstance(given, Unanswered):
                    texts[place] = [completion.text for completion in given]
                    attempt.receive(given)
                elif attempt.open:
                    attempt.dismiss(given.failure, given.detail)
        lessons: list[list[WireLesson]] = []
        for query in asked.recalls:
            attempt = _named(attempts, query.task)
            allowed = attempt.grant(query.k > limits.recalled or len(query.query) > limits.prompt)
            found = recall(attempt.skill, query.query, query.k) if recall is not None and allowed else ()
            lessons.append([WireLesson(x.prompt, x.answer, x.skill, x.level, x.success) for x in found])
        return Replies(requests=texts, recalls=lessons)

    def _outcome(self, attempt: Attempt, provenance: bool) -> Outcome:
        answer, failure, detail = attempt.answer, attempt.failure, attempt.detail
        if failure is None and (answer is None or len(answer) > self.limits.answer):
            answer, failure, detail = None, "malformed", "no answer of a proper length"
        if (
            failure is None
            and answer is not None
            and provenance
            and not built_from(answer, [completion.text for completion in attempt.completions])
        ):
            failure, detail = "provenance", "the answer is not put together from the policy's completions"
        return Outcome(
            answer=answer,
            failure=failure,
            detail=detail,
            tokens=attempt.tokens,
            requests=attempt.requests,
            completions=attempt.completions,
        )


def _named(attempts: list[Attempt], task: int) -> Attempt:
    if task >= len(attempts) or not (attempts[task].open or attempts[task].dismissed):
        raise ValueError(f"attempt {task} is not open")
    return attempts[task]


def _fail(attempts: list[Attempt], failure: str, detail: str) -> None:
    for attempt in attempts:
        if attempt.open:
            attempt.end(None, failure, detail)


def _unasked(requests: list[GenerateRequest]) -> list[Reply]:
    """Stands in for the policy where none is granted; no request gets this far."""
    raise AssertionError(f"{len(requests)} requests were granted without a policy")
