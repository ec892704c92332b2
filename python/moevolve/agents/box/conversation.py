"""One boxed attempt: it runs, or is heard from the record; each request passes here on its way to the table of handlers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec

from moevolve.agents.box import chat
from moevolve.agents.box.attempt import LIMIT, Answered, BoxedAttempt, answered, crowded, job_of, time_of
from moevolve.agents.box.http import Response
from moevolve.agents.box.interpreter import interpreter
from moevolve.agents.box.nursery import Nursery
from moevolve.agents.box.records import MOST_WORKSPACE, Recorded, Records, Words, place
from moevolve.agents.box.responses import Responses
from moevolve.agents.box.running import Running
from moevolve.agents.box.stages import RAISED, stages_of, told
from moevolve.agents.box.workspace import MOST_FILES, Workspace, hold
from moevolve.agents.genome import Genome
from moevolve.agents.kinds.tools import call_of
from moevolve.agents.manifest import Manifest
from moevolve.errors import SafetyError, SandboxError, UsageError
from moevolve.protocol.requests import INFRASTRUCTURE, Outcome, PublicTask
from moevolve.randomness import key

ROUTES = {"/v1/chat/completions": chat.chat, "/v1/completions": chat.completion}
RESPONSES = "/v1/responses"
OWN = "/v1/agent/"
"""Before the name of any other kind of request: `call`, `tools`, `recall`, `remember`."""
UNREPEATED = ("timeout", "limit", INFRASTRUCTURE)
"""Ends that this machine decided: a second run says nothing about the first."""
UNKEPT = (
    f"its workspace is not on record, where at most {MOST_WORKSPACE >> 20} MiB in {MOST_FILES:,} files are"
)


Told = Callable[[str, list[Any], dict[str, int]], tuple[bytes, str]]
"""(name of the exchange, completions, usage) -> body and content type; see `chat.told`."""


class Asked(msgspec.Struct, frozen=True, eq=False):
    """A request that waits for its reply."""

    index: int
    kind: str
    arguments: bytes
    reply: asyncio.Future[Any]


class Conversation:
    """One attempt.

    Args:
        manifest: how the agent is run.
        genome: the agent.
        task: what it sees.
        attempt: the account.
        ask: (kind, arguments) -> the reply to come; None is the reply to an attempt that is over.
        records: attempts on record.
        words: whose it gets.
        keep: whether its workspace is wanted.
    """

    def __init__(
        self,
        manifest: Manifest,
        genome: Genome,
        task: PublicTask,
        attempt: BoxedAttempt,
        ask: Callable[[str, bytes], asyncio.Future[Any]],
        records: Records,
        words: Words,
        keep: bool,
    ) -> None:
        self.attempt = attempt
        self._manifest = manifest
        self._genome = genome
        self._task = task
        self._ask = ask
        self._records = records
        self._keep = keep
        self._place = place(genome.hash, task, attempt.key, attempt.limits, words)
        self._requests: list[tuple[str, bytes]] = []
        self._left: Counter[tuple[str, bytes]] | None = None
        """In a second run: what the first asked and this one has not yet."""
        self._strayed = 0
        self._seen: Counter[str] = Counter()
        self._responses = Responses()
        self._outstanding: set[asyncio.Future[Any]] = set()
        self._running: Running | None = None
        self._workspace: Workspace | None = None

    def note(self, kind: str, arguments: bytes) -> None:
        """Puts down a request that the table of handlers is about to get."""
        self._requests.append((kind, arguments))

    def stop(self) -> None:
        """Ends the box: the attempt is over."""
        if self._running is not None:
            self._running.stop()

    async def run(self, nursery: Callable[[], Nursery]) -> None:
        """Runs the attempt to its end, or takes it from the record.

        Raises:
            SafetyError: this machine cannot make boxes.
            SandboxError: the box cannot be made.
        """
        known = self._records.own(self._place)
        former = None if known is not None else self._records.former(self._place)
        if known is not None and self._lacks(known):
            await self._repeat(known, nursery)
        elif known is not None:
            await self._hear(known)
        elif former is not None:
            await self._repeat(former, nursery)
            self._records.keep(self._place, former)
        else:
            end = await self._live(nursery())
            if not self.attempt.open:
                end = Answered(None, self.attempt.failure or "malformed", self.attempt.detail)
            files = None
            if self._keep and self._workspace is not None:
                files = self._workspace.packed(MOST_WORKSPACE)
            self._records.keep(
                self._place, Recorded(self._requests, end.answer, end.failure, end.detail, files)
            )
            self._requests = []
            self._end(end)

    def outcome(self) -> Outcome:
        """What became of it; the workspace is held where it is wanted."""
        outcome = self.attempt.outcome()
        if self._workspace is None:
            return outcome
        if self._keep and outcome.failure is None:
            return msgspec.structs.replace(outcome, workspace=hold(self._workspace))
        self._workspace.close()
        return outcome

    def _end(self, end: Answered) -> None:
        if self.attempt.open:
            self.attempt.end(end.answer, end.failure, end.detail)

    async def _live(self, nursery: Nursery) -> Answered:
        """Runs the agent in boxes as its stages say."""
        stages = stages_of(self._genome.files)
        left = time_of(self._manifest, self.attempt.limits)
        own_key, runs = self.attempt.key, list[tuple[Answered, Workspace | None]]()
        try:
            for number in range(stages.votes):
                if number:
                    if left <= 0 or not self.attempt.open:
                        break
                    own_key = key(self.attempt.key, "vote", number)
                end, left = await self._tried(nursery, own_key, left, stages.retries)
                if self._workspace is not None and not self._wanted(end, runs):
                    self._workspace.close()
                    self._workspace = None
                runs.append((end, self._workspace))
                self._workspace = None
            end, self._workspace = elected(runs)
        finally:
            for _, workspace in runs:
                if workspace is not None and workspace is not self._workspace:
                    workspace.close()
        return end

    def _wanted(self, end: Answered, runs: Sequence[tuple[Answered, Workspace | None]]) -> bool:
        """Whether what a run left may be judged: none of an answer that an earlier run gave, which takes memory."""
        same = (end.answer, end.failure)
        return self._keep and all((other.answer, other.failure) != same for other, _ in runs)

    async def _tried(
        self, nursery: Nursery, own_key: int, seconds: float, retries: int
    ) -> tuple[Answered, float]:
        """One run, and others while it fails by its own doing, each told why; with the seconds that they left."""
        end, left = await self._run(nursery, self._task, own_key, seconds)
        for number in range(retries):
            if end.failure not in RAISED or left <= 0 or not self.attempt.open:
                break
            if self._workspace is not None:
                self._workspace.close()
                self._workspace = None
            again = key(own_key, "retry", number)
            end, left = await self._run(nursery, told(self._task, end.detail), again, left)
        return end, left

    async def _run(
        self, nursery: Nursery, task: PublicTask, own_key: int, seconds: float
    ) -> tuple[Answered, float]:
        """One run in a box, and the seconds that it left."""
        limits = self._manifest.limits
        made = job_of(self._manifest, self._genome, task, own_key, interpreter(self._manifest.python))
        if (why := crowded(limits, made["workspace"])) is not None:
            return Answered(None, LIMIT, why), seconds
        self._running = Running(nursery, made, seconds, limits.output_kb << 10)
        ended = await self._running.run(self._handle)
        left = seconds - self._running.clock.spent
        self._workspace = self._running.workspace
        if self._outstanding:
            # What was asked before the box ended is answered, counted, and on record.
            await asyncio.wait(self._outstanding)
        return answered(self._manifest, ended, self._workspace, self.attempt.limits), left

    def _lacks(self, known: Recorded) -> bool:
        """Whether an answer cannot be judged by its record: the workspace that it left was too large for that."""
        return self._keep and known.failure is None and known.files is None

    async def _hear(self, known: Recorded, reason: str = "") -> None:
        """Asks what the attempt asked, and has it end as it ended; `reason` says why it did not run again."""
        self.attempt.heard = True
        for kind, arguments in known.requests:
            if self._left is None or self._left[kind, arguments] > 0:
                if self._left is not None:
                    self._left[kind, arguments] -= 1
                await self._ask(kind, arguments)
        if self._lacks(known):
            self._end(Answered(None, INFRASTRUCTURE, f"{UNKEPT}: {reason}"))
        else:
            self._end(Answered(known.answer, known.failure, known.detail))
        if self._workspace is not None:
            self._workspace.close()
        self._workspace = Workspace(None, known.files) if known.files is not None else None

    async def _repeat(self, former: Recorded, nursery: Callable[[], Nursery]) -> None:
        """Runs an attempt again and compares; what differs is taken from the record, and counted."""
        repeats = self._records.repeats
        if not repeats.execute:
            reason = "as asked"
        elif former.failure in UNREPEATED:
            reason = f"it ended by {former.failure}"
        else:
            self._left = Counter(former.requests)
            self.attempt.heard = True  # What strays from them never reaches the table.
            calls = (call_of(arguments) for kind, arguments in former.requests if kind == "call")
            self.attempt.follow(call for call in calls if call is not None)
            try:
                end = await self._live(nursery())
            except (SandboxError, SafetyError, UsageError) as error:
                reason = f"it cannot run here: {str(error).splitlines()[0][:200]}"
            else:
                missing = sum(self._left.values())
                repeats.drift += self._strayed + missing
                same = (end.answer, end.failure) == (former.answer, former.failure) or not self.attempt.open
                if same and not self._strayed and not missing:
                    repeats.executed += 1
                    self._end(Answered(former.answer, former.failure, former.detail))
                    return
                reason = "it asked something else" if self._strayed or missing else _otherwise(former, end)
        repeats.take(UNKEPT if self._lacks(former) else reason)
        await self._hear(former, reason)

    async def _handle(self, method: str, path: str, body: bytes) -> Response:
        """Answers what comes to the box's door."""
        if path == "/v1/models" and method == "GET":
            model = {"id": "policy", "object": "model", "created": 0, "owned_by": "moevolve"}
            return Response(200, msgspec.json.encode({"object": "list", "data": [model]}))
        if method == "GET" and path.startswith(f"{RESPONSES}/"):
            kept = self._responses.find(path[len(RESPONSES) + 1 :])
            if kept is not None:
                return Response(200, kept)
        if path not in ROUTES and path != RESPONSES and not path.startswith(OWN):
            return _error(
                404, f"there is no {path} here: chat completions, completions, responses, models", "not_found"
            )
        if method != "POST":
            return _error(405, f"{path} is asked by POST", "invalid_request_error")
        try:
            asked = msgspec.json.decode(body)
            if not isinstance(asked, dict):
                raise chat.Unfit("the body is no JSON object")
            if path in ROUTES:
                question = ROUTES[path](asked)
                return await self._generate(question, partial(chat.told, question))
            if path == RESPONSES:
                response = self._responses.asked(asked)
                return await self._generate(response.question, response.told)
        except (
            msgspec.DecodeError,
            chat.Unfit,
            UnicodeDecodeError,
            TypeError,
            AttributeError,
            KeyError,
        ) as error:
            return _error(400, f"{error}", "invalid_request_error")
        reply = await self._asking(path[len(OWN) :], msgspec.json.encode(asked, order="deterministic"))
        if (refusal := _refused(reply)) is not None:
            return refusal
        return Response(200, msgspec.json.encode({"value": reply[1]}))

    async def _generate(self, question: chat.Question, told: Told) -> Response:
        reply = await self._asking("generate", question.arguments)
        if (refusal := _refused(reply)) is not None:
            return refusal
        if (broken := chat.unkept(question, reply[1])) is not None:
            return _error(422, broken, "unprocessable")
        asked = blake2b(question.arguments, digest_size=16).hexdigest()
        self._seen[asked] += 1
        name = blake2b(digest_size=16)
        for part in (str(self.attempt.key), str(self._seen[asked])):
            name.update(part.encode() + b"/")
        name.update(question.arguments)
        tokens, _, prompt = reply[0]
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
        said, kind = told(name.hexdigest(), reply[1], usage)
        return Response(200, said, kind)

    async def _asking(self, kind: str, arguments: bytes) -> Any:
        """The reply to a request; in a second run, none to one that the first did not make."""
        if self._left is not None:
            if self._left[kind, arguments] <= 0:
                self._strayed += 1
                self.stop()
                return None
            self._left[kind, arguments] -= 1
        assert self._running is not None, "who asks runs"
        with self._running.clock:
            reply = self._ask(kind, arguments)
            self._outstanding.add(reply)
            return await asyncio.shield(reply)


def elected(runs: Sequence[tuple[Answered, Workspace | None]]) -> tuple[Answered, Workspace | None]:
    """The first run of those that gave the commonest answer, of equals the earliest; the last run where none answered."""
    votes = Counter(end.answer for end, _ in runs if end.failure is None)
    if not votes:
        return runs[-1]
    most = max(votes.values())
    return next(run for run in runs if run[0].failure is None and votes[run[0].answer] == most)


def _otherwise(former: Recorded, end: Answered) -> str:
    """How a second run, which asked the same, ended in place of the first one's end."""
    if former.failure is None and end.failure is None:
        return "it ended otherwise: with another answer"
    before, after = (failure or "an answer" for failure in (former.failure, end.failure))
    return f"it ended otherwise: {after} after {before}"


def _refused(reply: Any) -> Response | None:
    if reply is None:
        return _error(402, "this attempt is over", "budget")
    if len(reply) > 2:
        return _error(402 if reply[2] == "budget" else 400, reply[3], reply[2])
    return None


def _error(status: int, message: str, kind: str) -> Response:
    return Response(status, msgspec.json.encode({"error": {"message": message, "type": kind, "code": kind}}))
