"""The gate: is a candidate better than the champion on the same fresh tasks, and unharmed at every skill?

Two questions, one after the other, both by betting (`moevolve.gate.capital`), so that looking after every batch and stopping
at any time cost nothing. ("Accept if better" promoted 30-42 % of changes that had no effect: arXiv 2606.08106.)

1. **A gain**: "the mean over skills is above 0" at error rate `alpha`. Tasks come in whole rounds, one of every skill.
   For independent d_k with means mu_k and one stake s, E prod_k (1 + s d_k) = prod_k (1 + s mu_k) <= (1 + s mean(mu))^K
   <= 1, the geometric mean being at most the arithmetic one: the capital over whole rounds is a supermartingale although
   skills differ. Once it has passed 1/alpha the gain is shown for good, and only then does sampling turn to single
   skills: no choice of skills can bend the first answer.
2. **No harm**: "the mean of skill k is above -margin" at error rate `skill_alpha`, for every k, against the champion and,
   where that is another variant, against the variant that holds the skill's best confirmed level
   (`moevolve.gate.confirmed`). Each has a capital of its own over the skill's own tasks. Which skill is sampled next may
   depend on all that was seen: a capital stands still while its skill is not sampled, so it stays a supermartingale. A
   promotion needs every one of them, so a candidate that harms some skill beyond the margin is promoted with probability
   at most `skill_alpha`, however many skills there are (an intersection-union test: no share of the error rate for each).

Skills that look worst are sampled first, since any one of them ends the test. A test also ends when no proof is in reach.
Ending without a promotion can only lower the error, so these rules need no proof of their own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence

import msgspec

from moevolve.errors import UsageError
from moevolve.gate.capital import Counts, add, log_capital, lower_bound, mean, mirrored, size, tasks_needed
from moevolve.records import Decision, Pairs
from moevolve.rollouts.scoring import MOST_MISSING

OPTIMISM = 1.5
"""Standard errors by which futility overrates what is still to come."""
PATIENCE = 0.125
"""Share of `max_n` before which no gain is called out of reach."""
SETTLED = 64
"""Tasks of a skill before which its proof is not called out of reach."""
WORSE = 0.01
"""Error rate of "worse than the champion" unless told otherwise; shared between skills to call one harmed."""
MISSING = MOST_MISSING
"""Share of pairs without any answer above which there is no decision."""
AT_ONCE = 4
"""Skills that a batch is spread over once the gain is shown."""
FEW = 8
"""Tasks of a skill that are asked for at least."""


class Paired(msgspec.Struct, frozen=True):
    """Scores in [0, 1] of the candidate and of what it is compared with on one task; None where the policy did not answer.

    One that alone has no answer scores 0: dropping such pairs would pay for failing on hard tasks.
    """

    skill: str
    candidate: float | None
    other: float | None
    best: bool = False
    """Whether `other` is the variant with the skill's best confirmed level rather than the champion."""


class Want(msgspec.Struct, frozen=True):
    """Tasks of one skill that the gate asks for next, and with what the candidate is to be compared on them."""

    skill: str
    n: int
    best: bool = False


class GateVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate holds of a candidate so far; `decision` is None while it wants more tasks."""

    decision: Decision | None
    reason: str
    n: int
    """Pairs with an answer, with the champion and with holders of best levels."""
    missing: int
    """Pairs without."""
    wins: int
    """Pairs that the candidate wins against the champion."""
    losses: int
    gain: float
    """Mean paired difference, candidate minus champion: the mean over skills of each one's."""
    evidence: float
    """Log of the e-value for "better"; a promotion needs at least log(1/alpha)."""
    against: float
    """Log of the e-value for "worse"."""
    skills: dict[str, float]
    """Mean paired difference of every skill seen."""
    bounds: dict[str, float]
    """Lower bound of every skill's difference to its best confirmed level, at `skill_alpha` each; once decided."""
    harmed: tuple[str, ...]
    """Skills shown to be worse than the margin allows."""
    vetoes: tuple[str, ...]
    """Skills that stand against a promotion: harmed, or not shown unharmed within the budget."""


class PairedGate:
    """Paired comparison of a candidate with the champion, stopped as soon as it is decided.

    Args:
        alpha: bound on the probability that a candidate which is not better is promoted.
        margin: how much worse than its best confirmed level a skill may be, as a mean difference of scores.
        min_n: pairs before a promotion; every skill needs its even share of them.
        max_n: pairs after which a candidate without a shown gain goes to the archive.
        skills: the skills that tasks come from.
        skill_alpha: bound, for each skill, on the probability of calling it unharmed when it is harmed.
        confirm_n: further pairs, once the gain is shown, to show every skill unharmed; by default twice `max_n`.
        batch: pairs between two looks.
        best: skills whose best confirmed level another variant than the champion holds.
        worse: error rate of "worse than the champion", or `alpha` where that is larger.

    Raises:
        UsageError: a parameter out of its range.
    """

    def __init__(
        self,
        alpha: float,
        margin: float,
        min_n: int,
        max_n: int,
        skills: Sequence[str],
        *,
        skill_alpha: float = 0.01,
        confirm_n: int | None = None,
        batch: int = 96,
        best: Collection[str] = (),
        worse: float = WORSE,
    ) -> None:
        if not 0 < alpha < 1 or not 0 < skill_alpha < 1 or not 0 <= margin < 1 or not skills:
            raise UsageError("the gate needs 0 < alpha < 1, 0 <= margin < 1 and at least one skill")
        if not 1 <= min_n <= max_n:
            raise UsageError(f"gate: min_n must lie between 1 and max_n = {max_n}, not {min_n}")
        if unknown := sorted(set(best) - set(skills)):
            raise UsageError(f"gate: a best level of {', '.join(unknown)}, which the run does not work on")
        self.alpha = alpha
        self.worse = max(alpha, worse)
        self.skill_alpha = skill_alpha
        self.margin = margin
        self.min_n = min_n
        self.max_n = max_n
        self.confirm_n = 2 * max_n if confirm_n is None else confirm_n
        self.batch = batch
        self.share = max(1, min_n // len(skills))
        self._proof = math.log(1 / skill_alpha)
        self._counts: dict[tuple[str, bool], Counts] = {(skill, False): {} for skill in skills}
        self._counts |= {(skill, True): {} for skill in skills if skill in best}
        self._scored: dict[str, list[float]] = {skill: [0.0, 0] for skill in skills}
        self._waiting: dict[str, list[float]] = {skill: [] for skill in skills}
        self._rounds: Counts = {}
        self._under_way: deque[dict[tuple[str, bool], int]] = deque()
        self._missing = 0
        self._taken: list[Pairs] = []
        self._batches = 0
        self._shown: tuple[float, int] | None = None
        self._verdict = self._judge()

    @property
    def verdict(self) -> GateVerdict:
        """What holds after the newest batch."""
        return self._verdict

    def wants(self) -> list[Want]:
        """The next batch: whole rounds of skills until the gain is shown, then the skills that look worst.

        A batch may be asked for while earlier ones are under way; `update` takes them in their order.

        Raises:
            UsageError: the test is over.
        """
        if self._verdict.decision is not None:
            raise UsageError("this gate has decided; it wants no more tasks")
        if self._shown is None:
            behind = max(map(len, self._waiting.values()))
            each = -(-self.batch // len(self._waiting))
            wanted = [Want(skill, each + behind - len(queue)) for skill, queue in self._waiting.items()]
        else:
            lacking = {key: self._lacking(key) for key in self._open()}
            waiting = [key for key, lack in lacking.items() if lack > 0] or list(lacking)
            waiting.sort(key=lambda key: (log_capital(self._counts[key], self.margin), key))
            chosen = sorted(waiting[:AT_ONCE])
            each = -(-self.batch // len(chosen))
            wanted = [Want(key[0], max(FEW, min(each, lacking[key])), key[1]) for key in chosen]
        self._under_way.append({(want.skill, want.best): want.n for want in wanted})
        return wanted

    def update(self, batch: Iterable[Paired]) -> None:
        """Takes a batch of pairs and decides.

        Raises:
            UsageError: an unknown skill, a score outside of [0, 1], or a test that is over.
        """
        if self._verdict.decision is not None:
            raise UsageError("this gate has decided; a new comparison needs a new gate")
        if self._under_way:
            self._under_way.popleft()
        batch = list(batch)
        for pair in batch:
            if (pair.skill, pair.best) not in self._counts:
                what = "a best level of its own" if pair.best else f"one of {', '.join(self._waiting)}"
                raise UsageError(f"gate: skill {pair.skill!r} is not {what}")
            if pair.candidate is None and pair.other is None:
                self._missing += 1
                continue
            ours, theirs = pair.candidate or 0.0, pair.other or 0.0
            if not (0.0 <= ours <= 1.0 and 0.0 <= theirs <= 1.0):
                raise UsageError(f"gate: scores lie in [0, 1], not {ours!r} and {theirs!r} ({pair.skill})")
            add(self._counts[pair.skill, pair.best], [ours - theirs])
            scored = self._scored[pair.skill]
            scored[0] += ours
            scored[1] += 1
            if not pair.best and self._shown is None:
                self._waiting[pair.skill].append(ours - theirs)
        self._note(batch)
        if self._shown is None:
            whole = min(map(len, self._waiting.values()))
            for queue in self._waiting.values():
                add(self._rounds, queue[:whole])
                del queue[:whole]
        self._verdict = self._judge()

    def give_up(self, reason: str) -> GateVerdict:
        """Ends an undecided test without a promotion: no more tasks will come."""
        if self._verdict.decision is None:
            self._verdict = self._judge(reason)
        return self._verdict

    @property
    def pairs(self) -> list[Pairs]:
        """All that the gate has taken, for the record."""
        return list(self._taken)

    def counts(self, skill: str, *, best: bool = False) -> Counts:
        """How often each paired difference occurred, against the champion or the best confirmed variant."""
        return self._counts[skill, best]

    def score(self, skill: str) -> tuple[float, int]:
        """The candidate's mean score at a skill, and over how many tasks."""
        total, n = self._scored[skill]
        return (total / n if n else 0.0), int(n)

    def _note(self, batch: Sequence[Paired]) -> None:
        groups: dict[tuple[str, bool], Pairs] = {}
        for pair in batch:
            group = groups.get((pair.skill, pair.best))
            if group is None:
                group = Pairs(batch=self._batches, skill=pair.skill, candidate=[], other=[], best=pair.best)
                groups[pair.skill, pair.best] = group
            group.candidate.append(short(pair.candidate))
            group.other.append(short(pair.other))
        self._taken += groups.values()
        self._batches += 1

    # ------------------------------------------------------------------ the decision

    def _judge(self, ended: str | None = None) -> GateVerdict:
        n = sum(map(size, self._counts.values()))
        evidence = log_capital(self._rounds) if self._shown is None else self._shown[0]
        against = log_capital(mirrored(self._rounds))
        if self._shown is None and evidence >= math.log(1 / self.alpha) and size(self._rounds) >= self.min_n:
            self._shown = evidence, n
        skills = {
            skill: mean(counts) for (skill, best), counts in self._counts.items() if counts and not best
        }
        gain = math.fsum(skills.values()) / len(skills) if skills else 0.0
        harmed = self._harmed()
        decision, reason, vetoes = self._decide(f"{gain:+.3f} over {n} tasks", n, against, harmed)
        if ended is not None and decision is None:
            decision, reason = "archive", ended
        share = self._missing / (n + self._missing) if self._missing else 0.0
        if share > MISSING and (decision is not None or self._missing > MISSING * self.max_n):
            decision, vetoes = "void", ()
            reason = f"no decision: the policy left {self._missing} of {n + self._missing} pairs unanswered"
        champion = [counts for (_, best), counts in self._counts.items() if not best]
        return GateVerdict(
            decision=decision,
            reason=reason,
            n=n,
            missing=self._missing,
            wins=sum(count for counts in champion for d, count in counts.items() if d > 0),
            losses=sum(count for counts in champion for d, count in counts.items() if d < 0),
            gain=gain,
            evidence=evidence,
            against=against,
            skills=skills,
            bounds=self._bounds() if decision is not None else {},
            harmed=harmed,
            vetoes=vetoes,
        )

    def _decide(
        self, gain: str, n: int, against: float, harmed: tuple[str, ...]
    ) -> tuple[Decision | None, str, tuple[str, ...]]:
        if against >= math.log(1 / self.worse) and self._shown is None:
            return "discard", f"worse than the champion ({gain})", harmed
        if harmed:
            return "archive", f"harms {', '.join(harmed)} by more than {self.margin:g}", harmed
        if self._shown is None:
            seen = size(self._rounds)
            if seen >= self.max_n:
                return "archive", f"no proof of a gain in {seen} tasks", ()
            if seen >= max(self.min_n, PATIENCE * self.max_n):
                proof = math.log(1 / self.alpha)
                if tasks_needed(self._rounds, proof, 0.0, OPTIMISM) > self.max_n - seen:
                    return "archive", f"no gain within reach of {self.max_n} tasks, seen {seen}", ()
            return None, "undecided", ()
        waiting = self._open()
        if not waiting:
            return "promote", f"better than the champion ({gain}), and no skill is harmed", ()
        names = tuple(sorted({skill for skill, _ in waiting}))
        left = self.confirm_n - (n - self._shown[1])
        if left <= 0:
            return "archive", f"better, but {', '.join(names)} not shown unharmed in {n} tasks", names
        beyond = tuple(sorted({skill for skill, best in waiting if self._beyond(skill, best, left)}))
        if beyond:
            return (
                "archive",
                f"better, but {', '.join(beyond)} cannot be shown unharmed in {left} tasks",
                beyond,
            )
        return None, f"better; showing {', '.join(names)} unharmed", ()

    def _open(self) -> list[tuple[str, bool]]:
        """The comparisons whose proof of no harm is missing."""
        return [
            key
            for key, counts in self._counts.items()
            if size(counts) < self.share or log_capital(counts, self.margin) < self._proof
        ]

    def _harmed(self) -> tuple[str, ...]:
        """Skills whose own tasks prove a mean below -margin, against the champion or the best confirmed variant."""
        proof = math.log(len(self._waiting) / WORSE)
        return tuple(
            sorted(
                {
                    skill
                    for (skill, _), counts in self._counts.items()
                    if mean(counts) < -self.margin and log_capital(mirrored(counts), -self.margin) >= proof
                }
            )
        )

    def _beyond(self, skill: str, best: bool, left: int) -> bool:
        counts = self._counts[skill, best]
        return size(counts) >= SETTLED and tasks_needed(counts, self._proof, self.margin, OPTIMISM) > left

    def _lacking(self, key: tuple[str, bool]) -> int:
        """Tasks that a proof of no harm still takes at the rate seen, those under way left out."""
        needed = tasks_needed(self._counts[key] or {0.0: 1}, self._proof, self.margin, OPTIMISM)
        return math.ceil(min(needed, self.max_n)) - sum(batch.get(key, 0) for batch in self._under_way)

    def _bounds(self) -> dict[str, float]:
        """The bound against the best confirmed variant, which is the champion where no other holds the level."""
        return {
            skill: lower_bound(self._counts.get((skill, True), self._counts[skill, False]), self.skill_alpha)
            for skill in self._waiting
        }


def short(score: float | None) -> float | None:
    """The same score as it goes on file: a whole number as an integer, which takes one byte."""
    return int(score) if score is not None and score == int(score) else score
