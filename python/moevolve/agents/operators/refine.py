"""Trying other plans for skills that have one already, beside what became of it.

A plan that is better than a skill's present one agrees with the answers that the grader confirmed, and gives others where
an attempt failed. Neither needs a grader: confirmed answers and failed ones are known. What comes of it is a guess, and
the screening decides.
"""

import plan
from agent import RequestRefused

from . import space, stages

KNOWN, WRONG = 8, 8
"""Confirmed and failed payloads of a skill that a plan is tried on."""
AGREEMENT = 0.75
"""Share of confirmed answers below which a plan is no candidate."""
BETTER = 0.02
"""By how much a plan's expected success must exceed the present one's."""
SHORT = 5
"""Characters of the payloads on which chains of two skills are looked for."""
FEWEST = 4
DEAREST = 20
"""Requests of one attempt by the dearest of plans, about."""
LEAST = 800
"""Requests that looking at one more skill takes, about."""


async def refine(agent, skills, current, verbs, tried):
    """Plans that are expected to do better, by verb: [(expected success, stage, parameters), ...], best first.

    Args:
        agent: whose policy is asked.
        skills: `survey.Skill`s, in the order in which to spend the budget.
        current: verb -> (stage, parameters) of the program.
        verbs: the suite's.
        tried: summaries of what was proposed before.
    """
    found = {}
    for skill in skills:
        known, wrong = skill.known[:KNOWN], skill.wrong[:WRONG]
        if len(known) < FEWEST or len(wrong) < FEWEST or agent.budget.requests < LEAST:
            continue
        good = []
        for stage, parameters in await others(agent, skill, current, verbs):
            same = current.get(skill.verb) == (stage, parameters)
            if same or space.describe(skill.verb, stage, parameters) in tried:
                continue
            if agent.budget.requests < DEAREST * (KNOWN + WRONG):
                break
            expected = await success(agent, skill, (stage, parameters), current, known, wrong)
            if expected > skill.success + BETTER:
                good.append((expected, stage, parameters))
        if good:
            found[skill.verb] = sorted(good, key=lambda trial: -trial[0])
    return found


async def success(agent, skill, trial, current, known, wrong):
    """Expected success of a plan: what it keeps of the present one's, and what it says otherwise where that failed.

    Of another answer where the present one is wrong about as many are right as of those where it is right.
    """
    payloads = [payload for payload, _ in known] + [payload for payload, _ in wrong]
    answers = await evaluate(agent, skill.verb, trial, current, payloads)
    if answers is None:
        return 0.0
    kept = sum(answer == right for answer, (_, right) in zip(answers, known, strict=False)) / len(known)
    others = [
        answer not in (None, "", said) for answer, (_, said) in zip(answers[len(known) :], wrong, strict=True)
    ]
    moved = sum(others) / len(others)
    if kept < AGREEMENT:
        return 0.0
    return skill.success * kept + (1 - skill.success) * moved * kept * kept


async def evaluate(agent, verb, trial, current, payloads):
    """A plan's answers; its chains go by the program's own plans. None where it is no plan."""
    try:
        made = planned(verb, trial, current)
        return await agent.evaluate(plan=made.node, prompts=[f"{verb}:{payload}=" for payload in payloads])
    except (TypeError, AttributeError, RecursionError, RequestRefused):
        return None


def planned(verb, trial, current):
    """The expression of a (stage, parameters) for a verb."""

    def dispatch(task):
        if task.verb in current:
            stage, parameters = current[task.verb]
            return getattr(stages, stage)(task, **parameters)
        return plan.ask(task.prompt)

    before = stages.dispatch
    stages.dispatch = dispatch
    try:
        return getattr(stages, trial[0])(plan.Task(verb, ""), **trial[1])
    finally:
        stages.dispatch = before


async def others(agent, skill, current, verbs):
    """Other plans that a skill's payloads suggest."""
    payload = skill.known[0][0]
    stage, parameters = current.get(skill.verb, ("ask", {}))
    trials = []
    if any(sign in payload for sign in "+-"):
        trials += [
            ("inverse", {"size": size, "above": 4, "back": back, "samples": samples})
            for back in ("add", "sub")
            if back in verbs and back != skill.verb
            for size, samples in ((2, 8), (2, 16))
        ]
    elif "," not in payload:
        if {"add", "sub"} <= set(verbs) and skill.known[0][1].isdigit():
            trials += [
                ("offset", {"size": size, "above": limit, "through": "add", "back": "sub"})
                for size in (10, 12)
                for limit in range(skill.reach, skill.reach + 3)
            ]
        if payload.isalpha():
            trials += [("chain", {"verbs": pair}) for pair in await chains(agent, skill, verbs)]
    if "size" in parameters:
        trials += [(stage, parameters | {"size": size}) for size in (3, 4, 5, 6)]
    if "say" in parameters:
        trials += [(stage, parameters | {"say": say}) for say in (3, 4, 5)]
    if "samples" in parameters:
        trials.append((stage, parameters | {"samples": 5 if parameters["samples"] == 1 else 1}))
    return trials


async def chains(agent, skill, verbs):
    """Pairs of other skills that lead from short payloads to what the skill itself says of them."""
    payloads = sorted({payload[:SHORT] for payload, _ in skill.known + skill.wrong})[: 2 * FEWEST]
    asked = [agent.generate(f"{skill.verb}:{payload}=", temperature=0) for payload in payloads]
    right = [answer.text for answer in await agent.gather(*asked)]
    others = [verb for verb in verbs if verb != skill.verb]
    firsts = [agent.generate(f"{verb}:{payload}=", temperature=0) for verb in others for payload in payloads]
    said = [answer.text for answer in await agent.gather(*firsts)]
    middle = {verb: said[i * len(payloads) : (i + 1) * len(payloads)] for i, verb in enumerate(others)}
    middle = {verb: texts for verb, texts in middle.items() if all(text.isalpha() for text in texts)}
    pairs = [(first, second) for first in middle for second in middle if first != second]
    seconds = [
        agent.generate(f"{second}:{text}=", temperature=0)
        for first, second in pairs
        for text in middle[first]
    ]
    final = [answer.text for answer in await agent.gather(*seconds)]
    agreeing = []
    for index, pair in enumerate(pairs):
        texts = final[index * len(payloads) : (index + 1) * len(payloads)]
        if sum(text == wanted for text, wanted in zip(texts, right, strict=True)) >= len(payloads) - 1:
            agreeing.append(pair)
    return agreeing
