"""Requests of attempts, and what becomes of them: one form from the program's wire to whoever answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from moevolve.protocol.completion import Completion
from moevolve.protocol.messages import Message, Tool
from moevolve.protocol.sampling import Sampling
from moevolve.records import Lesson, LessonKind, Struct

SHOWN: tuple[LessonKind, ...] = ("fact", "procedure", "tool", "preference")
"""Kinds of lessons that a recall returns where it names none: all but failures."""


class PublicTask(Struct, frozen=True):
    """A task as a program sees it. The answer and the seed stay outside."""

    prompt: str
    skill: str
    messages: tuple[Message, ...] = ()
    """The conversation that ends in `prompt`, where the task is one."""
    files: tuple[tuple[str, bytes], ...] = ()
    """What lies in the workspace of an agent that has one, by path."""


class GenerateRequest(Struct, frozen=True):
    """One prompt of a round, for the policy to answer with `n` completions.

    `key` depends on the attempt's key and the request's index within the attempt alone, so an answer does not
    depend on what else is in the round; sample `i` draws from (key, i).
    """

    attempt: int
    """Index of the attempt that asks, in its call."""
    prompt: str | tuple[Message, ...]
    sampling: Sampling
    n: int
    key: int
    worded: bool = True
    """A text is put to a chat model in the suite's wording. Conversations, and texts with tools, go as they are."""
    tools: tuple[Tool, ...] = ()
    schema: dict[str, Any] | None = None
    """JSON schema that the answer must fit."""


class Exchange(Struct, frozen=True):
    """A question of a program and what the policy drew for it: its own words, whatever the program makes of them."""

    prompt: str | tuple[Message, ...]
    text: str
    """As the program got it."""
    tokens: tuple[int, ...]
    """As they were drawn, without the end token."""
    ended: bool
    """Whether an end token was drawn after them."""
    worded: bool = True
    tools: tuple[Tool, ...] = ()
    logprobs: tuple[float, ...] = ()
    """Natural logs under temperature 1 as they were drawn: one a token, and one more for the end token."""
    cut: bool = False
    """Ended by the limit of tokens: no whole answer."""

    @property
    def asked(self) -> list[str]:
        """What was asked: the text, or the texts of a conversation's user."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [message.content for message in self.prompt if message.role == "user"] or [""]

    @property
    def key(self) -> str:
        """The question as one text."""
        if isinstance(self.prompt, str) and not self.tools:
            return self.prompt
        return msgspec.json.encode((self.prompt, self.tools)).decode()


class RecallRequest(Struct, frozen=True):
    """A query of memory: the best `k` lessons of a skill."""

    skill: str
    query: str
    k: int
    key: int = 0
    """The request's own source of randomness."""
    budget: int | None = None
    """Most characters of the lessons together."""
    kinds: tuple[LessonKind, ...] = SHOWN
    words: float | None = None
    """Weight of words in a lesson's score; None for the run's, as of the two below."""
    vector: float | None = None
    trust: float | None = None
    confidence: float = 0.0
    """Lessons of less confidence are not returned."""


class Note(Struct, frozen=True):
    """A text that a program gives memory. Whether it is kept is decided at the cycle's end."""

    text: str
    kind: LessonKind


Call = tuple[str, dict[str, Any]]
"""A tool and its arguments."""


class ToolRequest(Struct, frozen=True):
    """A call of a tool that the suite grants; `key` as of a generation request."""

    attempt: int
    tool: str
    arguments: dict[str, Any]
    key: int
    session: int = 0
    """What the attempt's calls have in common, and no other attempt's: which world they reach."""
    past: bytes = b""
    """Digest of the attempt's earlier calls, in their order."""


POLICY = "policy"
"""Failure of an attempt that the policy left without an answer: it says nothing about who attempted."""


INFRASTRUCTURE = "infrastructure"
"""Failure of an attempt whose process the machine took away, again and again: it says nothing either."""

SILENT = (POLICY, INFRASTRUCTURE)
"""Failures that are in no mean; how many there are is told beside every score."""


class Unanswered(Struct, frozen=True):
    """Stands in place of a request's completions where the policy gave none."""

    failure: str
    """`policy`, or `rejected` where the request itself was refused: that is the attempt's own doing."""
    detail: str


Reply = list[Completion] | Unanswered


class Piece(Struct, frozen=True):
    """A whole completion inside an answer: the index of its first character, its text, and the prompt that asked for it.

    `prompt` is None where the completion says nothing about its prompt alone: it was cut, or nothing of the task was in
    its prompt.
    """

    start: int
    text: str
    prompt: str | None


class Outcome(Struct, frozen=True):
    """What became of one attempt."""

    answer: str | None
    failure: str | None
    """None, or `error` (it raised), `malformed` (no usable answer or message), `budget`, `timeout`, `crash` (its process
    died), `limit` (it reached a limit of its box), `infrastructure` (the machine took its process), `nondeterministic` (a
    second try went another way), `policy` (the policy did not answer), `rejected` (it refused the request)."""
    detail: str
    tokens: int
    """Tokens generated for the attempt, end tokens included."""
    requests: int
    completions: list[Completion]
    """Every completion that the attempt received, in the order of its requests."""
    pieces: tuple[Piece, ...] = ()
    """Completions that a plan's answer is put together from."""
    workspace: str | None = None
    """Name, in this process, of the workspace that it left; held until somebody takes it."""
    calls: tuple[Call, ...] = ()
    """Tools that the attempt called, in order; of those that failed, the ones that may have changed something."""
    recalled: tuple[tuple[str, ...], ...] = ()
    """Ids of the lessons that each of its recalls returned, best first."""
    notes: tuple[Note, ...] = ()
    """What it gave memory."""


Answer = Callable[[list[GenerateRequest]], Sequence[Reply]]
"""The policy: `n` completions per request, or why there are none, in the order of the requests."""

Recall = Callable[[RecallRequest], Sequence[Lesson]]
"""Memory: the lessons that answer a query, best first."""
