"""The host's own account of one attempt: what it spent, what it was given, how it ended."""

from __future__ import annotations

from hashlib import blake2b

from moevolve.agents.limits import LETTER, SPARE
from moevolve.config.roles import RoleSection
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import Call, Note, Outcome
from moevolve.randomness import key

FAILURES = frozenset({"error", "malformed", "budget", "timeout", "rejected"})
"""Failures that a process may report of an attempt by itself; the host alone finds `crash` and `policy`."""


class Attempt:
    """Counts for the host; the program's own count inside the sandbox is a courtesy to it.

    Args:
        skill: whose lessons it may recall.
        attempt_key: source of its randomness.
        role: what it is, by the name of its limits in the run file.
        limits: what it may spend.
        files: its workspace by path, where the host holds that; None where it has its own, or none.
        session: whose world its calls of tools reach; None for its key.
        room: bytes that it may send beside its prompts, for a workspace that the host holds.
    """

    __slots__ = (
        "skill", "key", "role", "limits", "requests", "tokens", "reserved", "completions", "pieces", "open", "dismissed",
        "answer", "failure", "detail", "calls", "files", "recalled", "notes", "noted", "session",
        "_past", "_sent", "room",
    )  # fmt: skip

    def __init__(
        self,
        skill: str,
        attempt_key: int,
        role: str,
        limits: RoleSection,
        files: dict[str, bytes] | None = None,
        session: int | None = None,
        room: int = 0,
    ) -> None:
        self.skill = skill
        self.key = attempt_key
        self.session = attempt_key if session is None else session
        self._past = b""
        self._sent = 0
        self.room = room
        self.role = role
        self.limits = limits
        self.requests = 0
        self.tokens = 0
        self.reserved = 0
        """Tokens that the requests granted in this round may come to, at most."""
        self.completions: list[Completion] = []
        self.pieces: list[Completion] = []
        """Those that an answer may be put together from."""
        self.open = True
        self.dismissed = False
        """Ended by the host; its process has still to say so."""
        self.answer: str | None = None
        self.failure: str | None = None
        self.detail = ""
        self.calls: list[Call] = []
        """Tools that were called, in order."""
        self.files = files
        self.recalled: list[tuple[str, ...]] = []
        """Ids of the lessons that each recall returned."""
        self.notes: list[Note] = []
        """What was given to memory."""
        self.noted = 0
        """Texts for memory that were granted, those of a round that is under way too."""

    def grant(self) -> bool:
        """Counts a request if the attempt may make it; otherwise the attempt is over."""
        if not self.open:
            return False
        if self.requests >= self.limits.requests or self.tokens >= self.limits.tokens:
            self.dismiss("budget", self.spent())
            return False
        self.requests += 1
        return True

    def weigh(self, size: int) -> None:
        """Counts the bytes of a request that has come, granted or not, before anything of it is kept; ends an attempt that
        has sent more than all that it may ask for comes to."""
        self._sent += size
        if self.open and self._sent > self._most:
            self.dismiss("malformed", f"its requests came to more than {self._most} bytes")

    def fits(self, size: int) -> bool:
        """Whether it may send so many bytes more."""
        return self._sent + size <= self._most

    @property
    def _most(self) -> int:
        return SPARE + self.room + LETTER * self.limits.requests * self.limits.longest_prompt

    def request_key(self, arguments: bytes) -> int:
        """Source of randomness of the request that was granted last, with these arguments."""
        return key(self.key, "request", self.requests)

    def past(self, call: bytes) -> bytes:
        """Digest of the calls of tools before this one, which is the newest from now on."""
        before = self._past
        self._past = blake2b(before + call, digest_size=16).digest()
        return before

    def spent(self) -> str:
        """The account in words, with the keys of the run file that would allow more."""
        return (
            f"spent {self.requests} requests and {self.tokens} tokens; roles.{self.role}.requests = "
            f"{self.limits.requests}, roles.{self.role}.tokens = {self.limits.tokens}"
        )

    def receive(self, completions: list[Completion], tokens: int, *, whole: bool) -> None:
        """Notes a request's completions of `tokens` tokens; an answer may be put together from `whole` ones alone."""
        self.tokens += tokens
        self.completions += completions
        if whole:
            self.pieces += completions

    def remember(self, recalled: tuple[str, ...] | None, note: Note | None) -> None:
        """Notes what memory returned, and what it was given."""
        if recalled is not None:
            self.recalled.append(recalled)
        if note is not None:
            self.notes.append(note)

    def outcome(self) -> Outcome:
        """What became of it: an answer that is missing or too long is malformed."""
        answer, failure, detail = self.answer, self.failure, self.detail
        if failure is None and (answer is None or len(answer) > self.limits.answer_chars):
            answer, failure, detail = None, "malformed", "no answer of a proper length"
        return Outcome(
            answer=answer,
            failure=failure,
            detail=detail,
            tokens=self.tokens,
            requests=self.requests,
            completions=self.completions,
            calls=tuple(self.calls),
            recalled=tuple(self.recalled),
            notes=tuple(self.notes),
        )

    def dismiss(self, failure: str, detail: str) -> None:
        """Ends the attempt while its process waits for a reply."""
        self.end(None, failure, detail)
        self.dismissed = True

    def report(self, answer: str | None, failure: str | None, detail: str) -> None:
        """Takes the process's word for how the attempt ended, unless the host has ended it before."""
        if self.dismissed:
            self.dismissed = False
            return
        self.end(answer, failure if failure is None or failure in FAILURES else "malformed", detail)

    def end(self, answer: str | None, failure: str | None, detail: str) -> None:
        """Ends the attempt: with an answer, or with a failure."""
        self.open = False
        self.answer = answer if failure is None else None
        self.failure = failure if answer is not None or failure is not None else "malformed"
        self.detail = detail
