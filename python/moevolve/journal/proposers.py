"""What proposers and their operators came to, by a run's records: the state of the bandit, and a table for people."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from moevolve.records import PASSED, CycleFinished, Gated, Proposed, ProposerAsked, Record, Screened

MOST = 200
"""Operators, and as many proposers, that are counted apart; of more the rest is one, `...`."""
OTHERS = "..."


class Account(msgspec.Struct):
    """What somebody's candidates came to, and what they cost."""

    asked: int = 0
    """Candidates asked for."""
    made: int = 0
    """Candidates that joined the archive."""
    repeats: int = 0
    """Those dropped since they were there already, in other words or the same."""
    broken: int = 0
    """Those dropped since they did not work."""
    silent: int = 0
    """Those that never came, of a proposer that failed or had nothing to offer."""
    screened: int = 0
    passed: int = 0
    """The screening; where an evaluator decides, those that it gave a score."""
    attempts: int = 0
    """On train tasks, that the screening took."""
    gain: float = 0.0
    """Sum of the screening gains of those that passed; where an evaluator decides, of what promotions gained."""
    promoted: int = 0
    """Those that passed the gate."""
    requests: int = 0
    tokens: int = 0
    """Drawn for the proposals."""

    @property
    def failed(self) -> int:
        """Candidates that came to nothing: broken, repeated, never delivered, or no better in the screening."""
        return self.repeats + self.broken + self.silent + self.screened - self.passed


class Accounts:
    """The accounts of a run, record by record.

    Attributes:
        proposers: by name.
        operators: by name.
    """

    def __init__(self) -> None:
        self.proposers: dict[str, Account] = {}
        self.operators: dict[str, Account] = {}
        self._whose: dict[str, tuple[str, str]] = {}

    def take(self, record: Record) -> None:
        """Follows the run by one record."""
        match record:
            case ProposerAsked():
                account = _of(self.proposers, record.proposer)
                account.asked += record.asked
                account.repeats += record.repeats
                account.broken += len(record.broken)
                if record.failure is not None or not record.made:
                    came = record.made + record.repeats + len(record.broken)
                    account.silent += max(0, record.asked - came)
                account.requests += record.requests
                account.tokens += record.tokens
            case Proposed(level="program"):
                self._whose[record.variant] = record.proposer, record.operator
                for account in self._both(record.variant):
                    account.made += 1
            case Screened():
                for account in self._both(record.variant):
                    account.screened += 1
                    account.passed += record.passed
                    account.attempts += record.n
                    account.gain += max(0.0, record.score - record.baseline) * record.passed
            case Gated(level="program"):
                for account in self._both(record.candidate):
                    account.promoted += record.decision in PASSED
                self._whose.pop(record.candidate, None)
            case CycleFinished():
                # Whoever was not at the gate in the candidate's cycle never will be.
                self._whose.clear()
            case _:
                pass

    def rated(self, operator: str, score: float | None) -> None:
        """Counts the program of an operator that an evaluator gave a score, or none."""
        account = _of(self.operators, operator)
        account.made += 1
        account.screened += 1
        account.passed += score is not None

    def improved(self, operator: str, gain: float) -> None:
        """Counts the program of an operator that an evaluator's scores made the champion, `gain` better than the last."""
        account = _of(self.operators, operator)
        account.promoted += 1
        account.gain += gain

    def _both(self, variant: str) -> list[Account]:
        if variant not in self._whose:
            return []
        proposer, operator = self._whose[variant]
        return [_of(self.proposers, proposer), _of(self.operators, operator)]


def earned(accounts: Mapping[str, Account]) -> list[tuple[str, Account]]:
    """The accounts, those with most promotions first, then those with most gain in the screening."""
    return sorted(
        accounts.items(), key=lambda pair: (-pair[1].promoted, -pair[1].gain, pair[1].tokens, pair[0])
    )


def _of(accounts: dict[str, Account], name: str) -> Account:
    if name not in accounts and len(accounts) >= MOST:
        name = OTHERS
    return accounts.setdefault(name, Account())
