"""From what clients say to what is trained on: majorities across clients, and a cap on each client's part.

- On one prompt a client has one vote, its newest: for an answer (its own correction, or an answer that it scored 0.5 or
  more), or against one. An answer counts once more than half of the prompt's voters are for it.
- A client who is an answer's only supporter has as many of these as clients usually have, and no more: a flood from one
  client is cut to the size of the others' parts.
- Some clients' labels are trained on; the others' are what the candidate is judged by. Who is which is drawn anew in each
  cycle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from moevolve.randomness import key
from moevolve.serve.interactions import Feedback, Interaction

GOOD = 0.5
"""Least score that counts as support for the answer as it is."""
SHARE = 2
"""A client may be the only supporter of this many times as many answers as the median client."""


class ConsensusLabel(msgspec.Struct, frozen=True):
    """An answer that clients stand for."""

    prompt: str
    answer: str
    supporters: tuple[str, ...]
    """Clients, by name."""
    sources: tuple[str, ...]
    """Interactions that it comes from."""


class _Ballot(msgspec.Struct):
    at: tuple[int, str, int]
    source: str
    supports: str | None


def consensus_labels(
    interactions: Iterable[Interaction], feedback: Iterable[Feedback]
) -> list[ConsensusLabel]:
    """Answers with a majority of their prompt's voters, by the age of the prompt."""
    kept = {interaction.id: interaction for interaction in interactions}
    ballots: dict[str, dict[str, _Ballot]] = {interaction.prompt: {} for interaction in kept.values()}
    for verdict in feedback:
        interaction = kept.get(verdict.id)
        if interaction is None or not 0 <= verdict.choice < len(interaction.answers):
            continue
        said = interaction.answers[verdict.choice]
        ballot = _Ballot(
            at=(verdict.at, verdict.id, verdict.choice),
            source=verdict.id,
            supports=verdict.correction
            if verdict.correction is not None
            else (said if verdict.score >= GOOD else None),
        )
        votes = ballots[interaction.prompt]
        if verdict.client not in votes or votes[verdict.client].at < ballot.at:
            votes[verdict.client] = ballot
    found = []
    for prompt, votes in ballots.items():
        for answer in sorted({b.supports for b in votes.values() if b.supports is not None}):
            supporters = sorted(name for name, b in votes.items() if b.supports == answer)
            if 2 * len(supporters) > len(votes):
                sources = sorted({votes[name].source for name in supporters})
                found.append(ConsensusLabel(prompt, answer, tuple(supporters), tuple(sources)))
    return found


def cap(found: Sequence[ConsensusLabel]) -> list[ConsensusLabel]:
    """The labels without what goes beyond any client's part; the newest of each client stay."""
    alone: dict[str, int] = {}
    for label in found:
        if len(label.supporters) == 1:
            alone[label.supporters[0]] = alone.get(label.supporters[0], 0) + 1
    if not alone:
        return list(found)
    counts = sorted(alone.values())
    most = SHARE * counts[(len(counts) - 1) // 2]
    left = dict.fromkeys(alone, most)
    kept = []
    for label in reversed(found):
        if len(label.supporters) == 1:
            if not left[label.supporters[0]]:
                continue
            left[label.supporters[0]] -= 1
        kept.append(label)
    return kept[::-1]


class TrainJudgeSplit(msgspec.Struct, frozen=True):
    """One cycle's division of the labels."""

    train: list[ConsensusLabel]
    judge: list[ConsensusLabel]
    """Labels of other clients, on other prompts."""
    trainers: tuple[str, ...]
    judges: tuple[str, ...]


def train_judge_split(found: Sequence[ConsensusLabel], seed: int, cycle: int) -> TrainJudgeSplit:
    """Divides the clients into two halves and the labels with them; labels that both halves support are trained on."""
    clients = sorted({name for label in found for name in label.supporters})
    order = sorted(clients, key=lambda name: (key(seed, "deployed", cycle, name), name))
    trainers = frozenset(order[: len(order) // 2])
    judges = frozenset(order) - trainers
    train = cap([label for label in found if trainers & set(label.supporters)])
    known = {label.prompt for label in train}
    judge = cap(
        [label for label in found if not trainers & set(label.supporters) and label.prompt not in known]
    )
    return TrainJudgeSplit(train, judge, tuple(sorted(trainers)), tuple(sorted(judges)))
