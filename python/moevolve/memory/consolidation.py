"""Consolidation: lessons that say the same become one, with their sources and what attempts told about all of them.

Which lessons say the same is read off their structure: attempts at one prompt, or texts of one writer that share most of
their words and all of their numbers. A proposal is decided by outcomes: where attempts spoke for one of the lessons and
against another, they do not say the same, whatever their words. Everything here is a function of the store and of evidence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations

import msgspec

from moevolve.journal.intervals import posterior
from moevolve.journal.lessons import MemoryStore, Query, Standing
from moevolve.memory.admission import MAX_CHARACTERS, NEAR, shared_words, words_of
from moevolve.memory.trust import PRIOR, Evidence
from moevolve.records import Consolidated, Lesson

NEWEST = 4096
"""Lessons that are looked at, the newest."""
TEXTS = 256
"""Texts without a prompt that are compared with each other, of each skill, the newest."""
CHAIN = 32
"""Lessons that one superseded, one after the other, which are looked at."""

_NUMBERS = re.compile(r"\d+(?:\.\d+)?")


class Member(msgspec.Struct, frozen=True):
    """A lesson that is to be made one with others, and what attempts told about it."""

    lesson: Lesson
    evidence: Evidence
    holds: bool = True
    """Whether it is recalled; one that a member supersedes is not."""


def proposals(
    store: MemoryStore,
    run: str,
    cycle: int,
    evidence: Mapping[str, Evidence],
    rests: Collection[frozenset[str]],
) -> list[list[Member]]:
    """Groups of a run's lessons that say the same, each sorted by id, in the order of their first ids.

    Args:
        store: memory as it was when the cycle began.
        run: whose lessons.
        cycle: the cycle under way.
        evidence: what attempts told, by lesson.
        rests: groups, as ids, that are not proposed now.
    """
    found = store.search(Query(run=run, before_cycle=cycle, k=NEWEST))
    holding = [hit.lesson for hit in found if not hit.pinned]
    groups: dict[tuple[str, ...], list[Lesson]] = {}
    texts: dict[tuple[str, ...], list[Lesson]] = {}
    for lesson in holding:
        key = (lesson.skill, lesson.kind, str(lesson.success), lesson.source)
        if lesson.prompt:
            groups.setdefault((*key, lesson.prompt), []).append(lesson)
        else:
            texts.setdefault(key, []).append(lesson)
    alike = list(groups.values())
    for several in texts.values():
        alike += _alike(several[:TEXTS])
    made = []
    for group in alike:
        members = [Member(lesson, evidence.get(lesson.id, Evidence())) for lesson in group]
        for lesson in group:
            members += _superseded(store, lesson, evidence)
        members.sort(key=lambda each: each.lesson.id)
        if len(members) > 1 and frozenset(each.lesson.id for each in members) not in rests:
            made.append(members)
    return sorted(made, key=lambda members: members[0].lesson.id)


def _alike(lessons: Sequence[Lesson]) -> Iterator[list[Lesson]]:
    """Lessons without a prompt by what they say; those that nobody repeats stand alone."""
    groups: list[list[Lesson]] = []
    for lesson in lessons:
        group = next((group for group in groups if same_text(group[0].text, lesson.text)), None)
        if group is None:
            groups.append([lesson])
        else:
            group.append(lesson)
    yield from groups


def same_text(first: str, second: str) -> bool:
    """Whether two texts share most of their words and all of their numbers."""
    near = shared_words(words_of(first), words_of(second)) >= NEAR
    return near and sorted(_NUMBERS.findall(first)) == sorted(_NUMBERS.findall(second))


def _superseded(store: MemoryStore, lesson: Lesson, evidence: Mapping[str, Evidence]) -> Iterator[Member]:
    """What a lesson superseded, one after the other, as far as attempts told something about it and it is not in yet."""
    older = lesson.supersedes
    for _ in range(CHAIN):
        found = None if older is None else store.get(older)
        if found is None or found.id in lesson.sources:
            return
        if found.id in evidence and evidence[found.id] != Evidence():
            yield Member(found, evidence[found.id], holds=False)
        older = found.supersedes


def judge(members: Sequence[Member]) -> tuple[bool, str]:
    """Whether outcomes let lessons be one, and why in words: the posteriors of no two of them lie apart, at 95 %."""
    told = [
        (
            each.lesson.id,
            posterior(each.evidence.for_, each.evidence.for_ + each.evidence.against, (PRIOR, PRIOR)),
        )
        for each in members
    ]
    for (one, first), (other, second) in combinations(told, 2):
        if first.high < second.low or second.high < first.low:
            return False, f"attempts tell {one} and {other} apart"
    return True, f"{len(members)} lessons say the same"


def pooled(members: Sequence[Member]) -> Evidence:
    """What attempts told about all of them."""
    return Evidence(
        sum(each.evidence.for_ for each in members), sum(each.evidence.against for each in members)
    )


def merged(run: str, cycle: int, members: Sequence[Member]) -> Lesson:
    """The lesson that stands for all: the words of the one that attempts speak for most, of equals the newest.

    What failed at one prompt is one lesson with every wrong answer.
    """
    holding = [each for each in members if each.holds]
    best = max(holding, key=lambda each: (each.evidence.trust, each.lesson.cycle, each.lesson.id)).lesson
    answer, text = best.answer, best.text
    if best.kind == "failure" and best.prompt:
        answer = "; ".join(dict.fromkeys(each.lesson.answer for each in holding))
        text = f"{best.prompt}{answer}"
        if len(text) > MAX_CHARACTERS:
            answer, text = best.answer, best.text
    ids = [each.lesson.id for each in members]
    named = "/".join([run, str(cycle), *ids])
    return msgspec.structs.replace(
        best,
        id=hashlib.blake2b(named.encode(), digest_size=12).hexdigest(),
        text=text,
        answer=answer,
        cycle=cycle,
        supersedes=best.id,
        sources=ids,
    )


def fallen(
    merges: Sequence[Consolidated], expired: Collection[str], evidence: Mapping[str, Evidence]
) -> dict[str, Standing]:
    """How lessons stand that were made one, once that one has expired: forgotten with it, and so are theirs.

    Otherwise the one whose words it has would hold again.

    Args:
        merges: those in force, in the order in which they were made.
        expired: lessons that are returned no more.
        evidence: what attempts told, by lesson.
    """
    gone, standings = set(expired), {}
    for each in reversed(merges):
        if each.lesson in gone:
            gone |= set(each.sources)
            for id in each.sources:
                standings[id] = Standing(trust=evidence.get(id, Evidence()).trust, forgotten=True)
    return standings


def built_on(merges: Sequence[Consolidated], name: str) -> list[Consolidated]:
    """A merge in force and those that were made of its lesson, the newest first; none where it is not in force."""
    gone: list[Consolidated] = []
    lessons: set[str] = set()
    for each in merges:
        if each.merge == name or lessons & set(each.sources):
            gone.insert(0, each)
            lessons.add(each.lesson)
    return gone


def restored(gone: Sequence[Consolidated], evidence: Mapping[str, Evidence]) -> dict[str, Standing]:
    """How lessons stand once merges are taken back, the newest first: their sources as attempts speak of them."""
    standings: dict[str, Standing] = {}
    for each in gone:
        for id in each.sources:
            standings[id] = evidence.get(id, Evidence()).standing
    for each in gone:
        known = evidence.get(each.lesson, Evidence())
        standings[each.lesson] = Standing(trust=known.trust, forgotten=True)
    return standings
