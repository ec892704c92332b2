"""The program's requests: one table from a request's kind to its typed handler.

A kind is one entry: its wire form, its check against the role's limits, and the handler that answers a round's
requests of this kind as one batch. The process inside the sandbox knows no kinds: `await agent.<kind>(...)` sends the
arguments by name, and the table here says what they must be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from moevolve.agents.attempt import Attempt
from moevolve.agents.wire import Replies, WireRequest
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import Call, Note, Unanswered

GENERATE = "generate"
"""The kind of requests to the policy."""


class Refused(Exception):
    """A request that is not granted; the program sees an exception of its own.

    Args:
        error: `budget` (over a limit), `tool` (of a tool), or `rejected` (of anything else).
        detail: the reason, and the key of the run file that would allow it.
        call: the tool that was called and refused, where it could have changed something.
    """

    def __init__(self, error: str, detail: str, call: Call | None = None) -> None:
        super().__init__(detail)
        self.call = call
        self.error = error
        self.detail = detail


class Given(msgspec.Struct, frozen=True):
    """An answer: the value as the program gets it, and the completions that it spent tokens on."""

    value: Any
    completions: list[Completion] = []
    tokens: int = 0
    whole: bool = False
    """An answer may be put together from these completions."""
    call: Call | None = None
    """A tool that was called with it."""
    requests: int = 0
    """Requests that it took beyond the one that was made."""
    prompt_tokens: int = 0
    """Tokens that the policy read for it."""
    recalled: tuple[str, ...] | None = None
    """Ids of the lessons that memory returned, where it was asked."""
    note: Note | None = None
    """What was given to memory."""


Result = Given | Refused | Unanswered

Wire = TypeVar("Wire", bound=msgspec.Struct)
Request = TypeVar("Request")


class Kind(Protocol, Generic[Wire, Request]):
    """One kind of request."""

    @property
    def wire(self) -> type[Wire]:
        """The arguments by name, decoded strictly."""
        ...

    def request(self, asked: Wire, attempt: Attempt, index: int, key: int) -> Request:
        """The request of the attempt at `index` in the call, checked against its role's limits.

        `key` is this request's own source of randomness.

        Raises:
            Refused: a limit, or something that cannot be done.
        """
        ...

    def answer(self, requests: list[Request]) -> Sequence[Result]:
        """Answers to a round's requests of this kind, in their order."""
        ...


class Gateway:
    """The requests of one call's attempts.

    Args:
        kinds: the table.
    """

    def __init__(self, kinds: Mapping[str, Kind[Any, Any]]) -> None:
        self._kinds = {
            name: (kind, msgspec.json.Decoder(kind.wire, strict=True).decode) for name, kind in kinds.items()
        }

    def serve(self, asked: Sequence[WireRequest], attempts: Sequence[Attempt]) -> Replies:
        """Answers a round; a request that the policy leaves unanswered ends its attempt.

        Raises:
            ValueError: an attempt that does not exist or has ended.
        """
        replies: list[Any] = [None] * len(asked)
        batches: dict[str, list[tuple[int, Attempt, Any]]] = {}
        for wire in asked:
            named(attempts, wire.attempt).reserved = 0
        for place in sorted(range(len(asked)), key=lambda place: asked[place].attempt):
            wire = asked[place]
            attempt = named(attempts, wire.attempt)
            if not attempt.grant():
                continue
            try:
                request = self._request(wire, attempt)
            except Refused as refusal:
                replies[place] = _refusal(refusal)
            else:
                batches.setdefault(wire.kind, []).append((place, attempt, request))
        for kind in sorted(batches):
            batch = batches[kind]
            results = self._kinds[kind][0].answer([request for _, _, request in batch])
            for (place, attempt, _), result in zip(batch, results, strict=True):
                if isinstance(result, Given | Refused) and result.call is not None:
                    attempt.calls.append(result.call)
                if isinstance(result, Given):
                    attempt.receive(result.completions, result.tokens, whole=result.whole)
                    attempt.remember(result.recalled, result.note)
                    replies[place] = [result.tokens, result.requests, result.prompt_tokens], result.value
                elif isinstance(result, Refused):
                    replies[place] = _refusal(result)
                elif attempt.open:
                    attempt.dismiss(result.failure, result.detail)
        return Replies(replies=replies)

    def together(self, asked: Sequence[WireRequest], attempt: Attempt) -> int:
        """How many of an attempt's requests, from the first on, come to the same in one round as each in a round of its own:
        those to the policy that it can pay in any case, and at least one."""
        trial = Attempt(attempt.skill, attempt.key, attempt.role, attempt.limits)
        trial.requests, trial.tokens = attempt.requests, attempt.tokens
        count = 0
        for wire in asked:
            try:
                if wire.kind != GENERATE or not trial.grant():
                    break
                self._request(wire, trial)
            except Refused:
                break
            count += 1
        return max(1, count)

    def _request(self, wire: WireRequest, attempt: Attempt) -> Any:
        if wire.kind not in self._kinds:
            near = get_close_matches(wire.kind, self._kinds, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(self._kinds))}"
            raise Refused("rejected", f"there are no requests of the kind {wire.kind!r}: {hint}")
        kind, decode = self._kinds[wire.kind]
        try:
            arguments = decode(wire.arguments)
        except msgspec.DecodeError as error:
            raise Refused("rejected", f"{wire.kind}: {error}") from None
        return kind.request(arguments, attempt, wire.attempt, attempt.request_key(bytes(wire.arguments)))


def named(attempts: Sequence[Attempt], index: int) -> Attempt:
    """The attempt at `index`.

    Raises:
        ValueError: it does not exist, or has ended.
    """
    if index >= len(attempts) or not (attempts[index].open or attempts[index].dismissed):
        raise ValueError(f"attempt {index} is not open")
    return attempts[index]


def within(attempt: Attempt, field: str, value: int, what: str, limit: int | None = None) -> None:
    """Checks a limit of the attempt's role.

    Raises:
        Refused: `value` is above it; names the limit's key.
    """
    if limit is None:
        limit = attempt.limits.longest_prompt if field == "prompt_chars" else getattr(attempt.limits, field)
    if value > limit:
        raise Refused("budget", f"{what} is {value}, and roles.{attempt.role}.{field} allows {limit}")


def _refusal(refusal: Refused) -> tuple[int, None, str, str]:
    return 0, None, refusal.error, refusal.detail[:2000]
