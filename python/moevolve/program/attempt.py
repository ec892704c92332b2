"""The host's own account of one attempt: what it spent, what it was given, how it ended."""

from __future__ import annotations

FAILURES = frozenset({"error", "malformed", "budget", "timeout"})
"""Failures that a process may report of an attempt by itself."""


class Attempt:
    """Counts for the host; the program's own count inside the sandbox is a courtesy to it.

    Args:
        skill: whose lessons it may recall.
        key: source of its randomness.
        requests_left: requests it may make.
        tokens_left: characters that may be generated for it.
    """

    __slots__ = (
        "skill", "key", "requests_left", "tokens_left", "requests", "tokens", "completions", "open", "answer",
        "failure", "detail",
    )  # fmt: skip

    def __init__(self, skill: str, key: int, requests_left: int, tokens_left: int) -> None:
        self.skill = skill
        self.key = key
        self.requests_left = requests_left
        self.tokens_left = tokens_left
        self.requests = 0
        self.tokens = 0
        self.completions: list[str] = []
        self.open = True
        self.answer: str | None = None
        self.failure: str | None = None
        self.detail = ""

    def grant(self, oversized: bool) -> bool:
        """Counts a request if the attempt may make it; otherwise the attempt is over."""
        if not self.open:
            return False
        if oversized or self.requests_left <= 0 or self.tokens_left <= 0:
            self.end(None, "budget", f"spent {self.requests} requests and {self.tokens} characters")
            return False
        self.requests_left -= 1
        self.requests += 1
        return True

    def receive(self, texts: list[str]) -> None:
        """Notes the completions of a request."""
        spent = sum(len(text) + 1 for text in texts)
        self.tokens += spent
        self.tokens_left -= spent
        self.completions += texts

    def end(self, answer: str | None, failure: str | None, detail: str) -> None:
        """Ends the attempt: with an answer, or with a failure."""
        self.open = False
        if failure is not None and failure not in FAILURES | {"crash"}:
            failure = "malformed"
        self.answer = answer if failure is None else None
        self.failure = failure if answer is not None or failure is not None else "malformed"
        self.detail = detail
