"""The host's own account of one attempt: what it spent, what it was given, how it ended."""

from __future__ import annotations

from moevolve.protocol.completion import Completion

FAILURES = frozenset({"error", "malformed", "budget", "timeout"})
"""Failures that a process may report of an attempt by itself; the host alone finds `crash`, `policy`, `rejected`."""


class Attempt:
    """Counts for the host; the program's own count inside the sandbox is a courtesy to it.

    Args:
        skill: whose lessons it may recall.
        key: source of its randomness.
        requests_left: requests it may make.
        tokens_left: characters that may be generated for it.
    """

    __slots__ = (
        "skill", "key", "requests_left", "tokens_left", "requests", "tokens", "completions", "open", "dismissed",
        "answer", "failure", "detail",
    )  # fmt: skip

    def __init__(self, skill: str, key: int, requests_left: int, tokens_left: int) -> None:
        self.skill = skill
        self.key = key
        self.requests_left = requests_left
        self.tokens_left = tokens_left
        self.requests = 0
        self.tokens = 0
        self.completions: list[Completion] = []
        self.open = True
        self.dismissed = False
        """Ended by the host; its process has still to say so."""
        self.answer: str | None = None
        self.failure: str | None = None
        self.detail = ""

    def grant(self, oversized: bool) -> bool:
        """Counts a request if the attempt may make it; otherwise the attempt is over."""
        if not self.open:
            return False
        if oversized or self.requests_left <= 0 or self.tokens_left <= 0:
            self.dismiss("budget", f"spent {self.requests} requests and {self.tokens} characters")
            return False
        self.requests_left -= 1
        self.requests += 1
        return True

    def receive(self, completions: list[Completion]) -> None:
        """Notes the completions of a request."""
        spent = sum(completion.count for completion in completions)
        self.tokens += spent
        self.tokens_left -= spent
        self.completions += completions

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
