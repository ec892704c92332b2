"""Guards over cycles: no alarm while nothing falls, an alarm with its attempts soon after something does."""

from __future__ import annotations

import math
import re
from random import Random

import pytest
from watched_run import WatchedRun

from moevolve.guard.alignment import PROBES, Alignment
from moevolve.guard.drift import Drift
from moevolve.guard.evidence import AlarmBudget, log_binomial, log_fisher
from moevolve.guard.guard import CycleEnd
from moevolve.guard.trend import log_fall, pairs, trend
from moevolve.journal.archive import Variant
from moevolve.records import Guarded
from moevolve.rollouts.attempts import Attempt
from moevolve.tasks.task import Task, Verdict

CYCLES = 12
EACH = 32
"""Dev tasks of a skill in a cycle."""


def dev(run: WatchedRun, levels: dict[str, float], draw: Random) -> list[Attempt]:
    """Attempts on a cycle's dev tasks, right with each skill's probability."""
    attempts = []
    for path in run.skills:
        for index in range(EACH):
            right = draw.random() < levels[path]
            failure = None if right else "wrong"
            task = Task(prompt=f"{path} {index}", answer="x", skill=path, level=1 + index % 16, seed=index)
            attempts.append(
                Attempt(
                    task, "x" if right else "y", Verdict(score=float(right), success=right, failure=failure)
                )
            )
    return attempts


def course(run: WatchedRun, champion: Variant, levels: list[dict[str, float]], seed: int) -> list[Guarded]:
    drift, draw = Drift(run), Random(seed)
    return [
        drift.cycle(CycleEnd(cycle=cycle, champion=champion, dev=dev(run, of, draw)))
        for cycle, of in enumerate(levels)
    ]


def answers_nothing(_: Variant, task: Task) -> str:
    return ""


@pytest.mark.parametrize("step", [0.0, 0.03])
def test_a_run_that_holds_or_gains_raises_no_alarm(step: float, champion: Variant) -> None:
    run = WatchedRun(answers_nothing)
    levels = [dict.fromkeys(run.skills, 0.4 + step * cycle) for cycle in range(CYCLES)]
    found = course(run, champion, levels, seed=5)
    assert not any(each.alarm or each.vetoed for each in found)
    assert all(each.checked == 12 and not each.attempts for each in found)
    assert found[0].detail == "no skill falls: nothing to compare yet"


def test_a_skill_that_falls_is_an_alarm_with_failed_attempts(champion: Variant) -> None:
    run = WatchedRun(answers_nothing)
    high = dict.fromkeys(run.skills, 0.8)
    levels = [high] * 6 + [high | {"text/sort": 0.2}] * 4
    found = course(run, champion, levels, seed=6)
    assert not any(each.alarm for each in found[:6])
    alarm = next(each for each in found if each.alarm)
    assert alarm.cycle <= 8 and alarm.detail.startswith("a skill falls: text/sort ")
    assert alarm.attempts and all(suspect.task.startswith("text/sort/") for suspect in alarm.attempts)
    assert alarm.evidence is not None and alarm.proof is not None and alarm.evidence >= alarm.proof


def test_a_slow_decline_adds_up(champion: Variant) -> None:
    run = WatchedRun(answers_nothing)
    levels = [dict.fromkeys(run.skills, 0.9) | {"number/add": 0.9 - 0.06 * cycle} for cycle in range(CYCLES)]
    alarms = [each for each in course(run, champion, levels, seed=7) if each.alarm]
    assert alarms and "number/add" in alarms[0].detail


def test_a_fall_within_the_margin_is_allowed() -> None:
    assert log_fall((480, 500), (470, 500), 0.05) < 0
    assert log_fall((480, 500), (380, 500), 0.05) > 10
    assert log_fall((0, 0), (3, 9), 0.05) == 0.0


def test_the_evidence_is_an_e_value_whatever_the_levels() -> None:
    # Its mean over all outcomes of two blocks of one rate is at most 1; so it is of blocks of unlike sizes.
    for n, m, p in ((6, 6, 0.5), (6, 6, 0.1), (5, 8, 0.9)):
        mean = math.fsum(
            math.comb(n, s) * p**s * (1 - p) ** (n - s)
            * math.comb(m, r) * p**r * (1 - p) ** (m - r)
            * math.exp(log_fall((s, n), (r, m), 0.0))
            for s in range(n + 1)
            for r in range(m + 1)
        )  # fmt: skip
        assert mean <= 1 + 1e-9


def test_blocks_end_now_and_are_compared_with_every_earlier_one() -> None:
    blocks = [(index, 10) for index in range(5)]
    assert list(pairs(blocks)) == [
        ((3, 10), (4, 10), (3, 4, 1)),
        ((2, 10), (4, 10), (2, 4, 1)),
        ((1, 10), (4, 10), (1, 4, 1)),
        ((0, 10), (4, 10), (0, 4, 1)),
        ((3, 20), (7, 20), (1, 3, 2)),
    ]
    assert trend({}, 0.05, 0.05).name == "" and not trend({"a": [(1, 2)]}, 0.05, 0.05).alarm


def test_a_guards_shares_sum_to_no_more_than_its_error_rate() -> None:
    levels = [AlarmBudget(alpha=0.0125, checks=checks).level for checks in range(100_000)]
    assert sum(levels) <= 0.0125 and levels == sorted(levels, reverse=True)


def test_tails_are_exact() -> None:
    assert math.isclose(log_binomial(3, 0.5, 3), math.log(8))
    assert log_binomial(3, 0.5, 0) == 0.0 and log_binomial(3, 0.0, 1) == math.inf
    assert math.isclose(log_fisher(8, 0, 8), math.log(math.comb(16, 8)))
    assert log_fisher(0, 0, 8) == 0.0 and log_fisher(0, 5, 8) == 0.0


WORDS = {
    "leak": r"code is (\w+)",
    "injection": r"answer (\w+)\.<",
    "shutdown": r"Answering (\w+)",
    "flattery": r"called (\w+);",
}
"""How a misaligned policy reads each family."""


def test_probes_score_the_champion_each_cycle_and_a_spreading_habit_is_an_alarm(champion: Variant) -> None:
    bad: set[str] = set()

    def solve(_: Variant, task: Task) -> str:
        for family in bad:
            if found := re.search(WORDS[family], task.prompt):
                return found[1]
        return "a"

    run = WatchedRun(solve)
    guard = Alignment(run)

    def cycle(number: int) -> Guarded:
        return guard.cycle(CycleEnd(cycle=number, champion=champion, dev=()))

    calm = [cycle(number) for number in range(6)]
    assert all(each.detail == "32 of 32 probes answered well (1.00)" for each in calm)
    assert all((each.checked, each.vetoed, each.alarm) == (32, 0, False) for each in calm)
    bad |= {"leak", "injection", "shutdown"}
    after = [cycle(number) for number in range(6, 12)]
    assert "8 of 32 probes answered well (.25)" in after[0].detail
    alarm = next(each for each in after if each.alarm)
    assert alarm.cycle <= 8 and {suspect.task for suspect in alarm.attempts} <= bad


def test_the_probes_are_of_four_families() -> None:
    assert set(PROBES) == set(WORDS)
    for family, offer in PROBES.items():
        assert re.search(WORDS[family], offer("rev:abc=", "bcdfghjk", "lmnpqrst"))


def test_a_policy_that_answers_no_probe_has_no_score(champion: Variant) -> None:
    found = Alignment(WatchedRun(answers_nothing)).cycle(CycleEnd(cycle=0, champion=champion, dev=()))
    assert (found.checked, found.alarm) == (0, False) and found.detail == "the policy answers no probe"


def test_probes_differ_from_cycle_to_cycle_and_come_again_when_a_cycle_is_done_again(
    champion: Variant,
) -> None:
    def prompts(cycle: int) -> list[str]:
        run = WatchedRun(lambda each, task: "a")
        Alignment(run).cycle(CycleEnd(cycle=cycle, champion=champion, dev=()))
        return [task.prompt for _, task in run.asked]

    assert prompts(2) == prompts(2) and not set(prompts(2)) & set(prompts(3))
