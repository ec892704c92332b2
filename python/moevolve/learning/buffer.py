"""The training buffer: answers that the sealed grader confirmed, kept for rehearsal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random

import msgspec

from moevolve.protocol.messages import Message
from moevolve.protocol.requests import Exchange
from moevolve.protocol.rollouts import Part
from moevolve.rollouts.attempts import Attempt
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task

FEW = 64
"""Answers of a skill at which it is drawn half as often as its need says: few would be learnt by heart."""


class Confirmed(msgspec.Struct, frozen=True):
    """One confirmed answer: the text a variant gave, never the gold text."""

    prompt: str
    """What was asked, as it was asked; of a conversation its last text."""
    answer: str
    skill: str
    level: int
    cycle: int
    exchange: Exchange | None = None
    """Of a program that computes: the question as it was put, and the tokens that were drawn."""
    messages: tuple[Message, ...] = ()
    """The conversation that was answered, where the task is one."""
    name: str = ""
    """What tells the question from others where its prompt does not: its conversation, its tools, its task's files."""

    @property
    def key(self) -> str:
        """What one answer is kept for."""
        return self.name or self.prompt


class Buffer:
    """Confirmed answers in the order they came, one a question, the oldest dropped beyond `capacity`."""

    def __init__(self, capacity: int, items: Iterable[Confirmed] = ()) -> None:
        self.capacity = capacity
        self._items: dict[str, Confirmed] = {item.key: item for item in items}

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[Confirmed]:
        """All answers, oldest first."""
        return list(self._items.values())

    def add(self, attempts: Iterable[Attempt], cycle: int, *, confirmed_only: bool = True) -> int:
        """Takes the successful attempts (all of them when not `confirmed_only`); returns how many were new."""
        taken = 0
        for attempt in attempts:
            task = attempt.task
            if (confirmed_only and not attempt.verdict.success) or not attempt.answer:
                continue
            taken += task.identity not in self._items
            self._put(
                Confirmed(
                    task.prompt,
                    attempt.answer,
                    task.skill,
                    task.level,
                    cycle,
                    messages=task.messages,
                    name="" if task.identity == task.prompt else task.identity,
                )
            )
        return taken

    def add_parts(
        self,
        attempts: Sequence[Attempt],
        parts: Sequence[Sequence[Part]],
        cycle: int,
        suite: Suite,
    ) -> int:
        """Takes what confirmed answers were put together from, so that the weights stay sure of what the program asks.

        A part is a whole completion at its own place in a confirmed answer, to a prompt with a piece of the task in it, and
        the suite confirms it as that prompt's right answer: what is right at its place may be wrong for what was
        asked. Only prompts of the train split are taken: a short part may well be a task of its own. Returns how many
        were taken.
        """
        taken = 0
        for attempt, pieces in zip(attempts, parts, strict=True):
            if not attempt.verdict.success:
                continue
            task = attempt.task
            for prompt, text in pieces:
                if (
                    prompt == task.prompt
                    or suite.split_of(prompt) != "train"
                    or not suite.confirms(prompt, text)
                ):
                    continue
                self._put(Confirmed(prompt, text, task.skill, task.level, cycle))
                taken += 1
        return taken

    def add_exchanges(
        self,
        attempts: Sequence[Attempt],
        exchanges: Sequence[Sequence[Exchange]],
        cycle: int,
        suite: Suite,
        *,
        confirmed_only: bool = True,
    ) -> int:
        """Takes what the policy said in confirmed attempts of a program that computes, never what the program made of it.

        Where one question was put several times and answered differently, a vote for instance, what the attempt answered in
        the end tells the right ones. A question that may be a task of another split than train is left out. Returns how many
        attempts were taken from.
        """
        taken = 0
        for attempt, said in zip(attempts, exchanges, strict=True):
            if (confirmed_only and not attempt.verdict.success) or not attempt.answered:
                continue
            task = attempt.task
            own = [each for each in of_train(task, said, suite) if not each.cut]
            kept = _agreeing(own, attempt.answer)
            taken += bool(kept)
            for each in kept:
                # Its tokens are learnt; only what reinforces needs to know how likely they were.
                said_once = msgspec.structs.replace(each, logprobs=())
                prompt = each.asked[-1]
                self._put(
                    Confirmed(
                        prompt,
                        each.text,
                        task.skill,
                        task.level,
                        cycle,
                        said_once,
                        name="" if each.key == prompt else each.key,
                    )
                )
        return taken

    def _put(self, item: Confirmed) -> None:
        # A question seen again moves to the end, so that it counts as recent.
        self._items.pop(item.key, None)
        self._items[item.key] = item
        while len(self._items) > self.capacity:
            self._items.pop(next(iter(self._items)))

    def batches(
        self,
        cycle: int,
        steps: int,
        size: int,
        recent: float,
        draw: Random,
        grown: frozenset[str] = frozenset(),
        share: float = 0.0,
        needs: Mapping[str, float] | None = None,
    ) -> Iterator[list[Confirmed]]:
        """Draws `steps` batches: a share `recent` from this cycle's answers where there are any, the rest from all.

        A skill is drawn first. For this cycle's answers it is drawn by its need, less where there are few to learn from;
        rehearsal takes all in equal turns, so that none is forgotten. Together the skills in `grown` get a share `share`.

        Args:
            cycle: whose answers are recent.
            steps: how many batches.
            size: answers of a batch.
            recent: share of this cycle's answers.
            draw: source of randomness.
            grown: skills that come together, each as often as the others.
            share: of the skills in `grown`.
            needs: skill -> how often its recent answers are drawn, relative to the others; one that is left out is drawn as
                often as the least needed one. None draws all alike.
        """
        pools = _by_skill(item for item in self._items.values() if item.skill not in grown)
        new = _by_skill(item for item in self._items.values() if item.skill in grown)
        pools, new = (pools, new) if pools else (new, {})
        now = {skill: kept for skill, pool in pools.items() if (kept := _of(pool, cycle))}
        names, weights = list(now), _weights(now, needs)
        latest = {skill: _of(pool, cycle) or pool for skill, pool in new.items()}
        for _ in range(steps):
            batch = []
            for _ in range(size):
                if new and draw.random() < share:
                    items = _turn(latest if draw.random() < recent else new, draw)
                elif now and draw.random() < recent:
                    [skill] = draw.choices(names, weights)
                    items = now[skill]
                else:
                    items = _turn(pools, draw)
                batch.append(items[draw.randrange(len(items))])
            yield batch


def of_train(task: Task, said: Sequence[Exchange], suite: Suite) -> list[Exchange]:
    """The exchanges of an attempt at a train task whose questions may be no task of another split."""
    return [each for each in said if task.prompt in each.asked or not suite.elsewhere(each.asked[-1])]


def _agreeing(said: Sequence[Exchange], answer: str) -> list[Exchange]:
    """The exchanges whose questions were answered in one way, and of the others those that say the answer."""
    texts: dict[str, set[str]] = {}
    for each in said:
        texts.setdefault(each.key, set()).add(each.text.strip())
    return [each for each in said if len(texts[each.key]) == 1 or each.text.strip() == answer.strip()]


def _by_skill(items: Iterable[Confirmed]) -> dict[str, list[Confirmed]]:
    pools: dict[str, list[Confirmed]] = {}
    for item in items:
        pools.setdefault(item.skill, []).append(item)
    return dict(sorted(pools.items()))


def _of(pool: Sequence[Confirmed], cycle: int) -> list[Confirmed]:
    return [item for item in pool if item.cycle == cycle]


def _turn(pools: Mapping[str, list[Confirmed]], draw: Random) -> list[Confirmed]:
    return list(pools.values())[draw.randrange(len(pools))]


def _weights(pools: Mapping[str, Sequence[Confirmed]], needs: Mapping[str, float] | None) -> list[float]:
    """How often a skill is drawn; nothing but turns that are equal without `needs`."""
    if not needs:
        return [1.0] * len(pools)
    least = min(needs.values())
    return [needs.get(skill, least) * len(pool) / (len(pool) + FEW) for skill, pool in pools.items()]
