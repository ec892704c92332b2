"""Trying routes on the policy before proposing them, without a grader.

A route that is right gives back answers that are known already: those the grader confirmed, and the policy's
own at lengths where it is reliable. So each skill's candidates are run on such payloads, all at once, and
what agrees is kept. First every kind of route at one part size, then the best kind at other sizes.
"""

import plan

from . import stages

EXAMPLES = 8
"""Payloads of a skill that its candidates are tried on."""
SHORT = 6
"""Length to which a failed payload is cut where no confirmed answer is known."""
AGREEMENT = 0.7
FIRST_SIZE, OTHER_SIZES = 4, (5, 3, 6, 8)
FEWEST = 3
"""Payloads longer than the parts that a trial needs: on shorter ones nothing splits, and all routes agree."""
SIGNS = "+-,"
AT_ONCE = 48
"""Trials of one gathering; requests are bounded by stopping between two."""


def kinds(verb, payload, by_sign):
    """Kinds of routes worth trying on a skill with such a payload; `above` is 0, so that they split always.

    Args:
        verb: the skill's.
        payload: one of its payloads.
        by_sign: sign -> verbs whose payloads hold it, to fold through.
    """
    common = {"size": FIRST_SIZE, "above": 0}
    if any(sign in payload for sign in "+-"):
        return [("columns", {"size": 2, "above": 0, "samples": 1}), ("steps", {})]
    if "," in payload:
        return [("window", {"size": 2, "above": 0, "say": say, "samples": 1}) for say in (4, 0)]
    found = [
        ("split", common | {"cut_at": how, "join": join, "samples": 1})
        for how in ("change", "even", "range")
        for join in ("order", "reversed")
    ]
    if payload.isdigit():
        found.append(("carry", common | {"samples": 1}))
    for sign in ("+", ","):
        for through in by_sign.get(sign, []):
            found.append(("fold", common | {"through": through, "glue": sign, "samples": 1}))
    found.append(("fold", common | {"through": verb, "glue": "", "samples": 1}))
    return found


async def references(agent, skill):
    """Pairs (payload, trusted answer), the longer ones first: confirmed answers, else short questions asked
    now."""
    pairs = [pair for pair in skill.known if len(pair[0]) >= FIRST_SIZE + 1][:EXAMPLES]
    if len(pairs) >= EXAMPLES // 2:
        return pairs
    cut = sorted({_shortened(payload) for payload in skill.failed[: 2 * EXAMPLES]})[: EXAMPLES - len(pairs)]
    prompts = [f"{skill.verb}:{payload}=" for payload in cut]
    answers = await agent.gather(*[agent.generate(prompt, temperature=0) for prompt in prompts])
    return pairs + [(payload, answer.text) for payload, answer in zip(cut, answers, strict=True)]


def _shortened(payload):
    for sign in SIGNS:
        left, found, right = payload.partition(sign)
        if found:
            return f"{left[:3]}{sign}{right[:3]}"
    return payload[:SHORT]


async def agreement(agent, verb, stage, parameters, pairs):
    """Share of the pairs on which a route gives the trusted answer; a route that is no plan gives none."""
    pairs = [pair for pair in pairs if len(pair[0]) > parameters.get("size", 0)]
    if len(pairs) < FEWEST:
        return 0.0
    try:
        made = getattr(stages, stage)(plan.Task(verb, ""), **parameters)
    except (TypeError, RecursionError):
        return 0.0
    answers = await agent.evaluate(plan=made.node, prompts=[f"{verb}:{payload}=" for payload, _ in pairs])
    return sum(answer == trusted for answer, (_, trusted) in zip(answers, pairs, strict=True)) / len(pairs)


async def _scores(agent, trials):
    """Agreement of each trial (verb, stage, parameters, pairs), as far as the budget goes."""
    scores = []
    for start in range(0, len(trials), AT_ONCE):
        if agent.budget.requests < AT_ONCE * EXAMPLES * 3:
            break
        part = trials[start : start + AT_ONCE]
        scores += await agent.gather(*[agreement(agent, *trial) for trial in part])
    return list(zip(scores, trials, strict=False))  # the budget may have ended the trials early


async def probe(agent, skills):
    """Routes that agree with what is known, by verb: [(agreement, stage, parameters), ...], best first.

    Args:
        agent: whose policy is asked; a few thousand short greedy requests.
        skills: `survey.Skill`s, in the order in which to spend the budget.
    """
    pairs = dict(
        zip(
            [skill.verb for skill in skills],
            await agent.gather(*[references(agent, skill) for skill in skills]),
            strict=True,
        )
    )
    by_sign = {}
    for verb, known in pairs.items():
        for sign in SIGNS:
            if known and sign in known[0][0]:
                by_sign.setdefault(sign, []).append(verb)
    first = [
        (verb, stage, parameters, known)
        for verb, known in pairs.items()
        if known
        for stage, parameters in kinds(verb, known[0][0], by_sign)
    ]
    found = {}
    for score, (verb, stage, parameters, _) in await _scores(agent, first):
        if score >= AGREEMENT:
            found.setdefault(verb, []).append((score, stage, parameters))
    second = []
    for verb, kept in found.items():
        kept.sort(key=lambda route: -route[0])
        _, stage, parameters = kept[0]
        if stage not in ("columns", "steps", "window"):
            second += [(verb, stage, parameters | {"size": size}, pairs[verb]) for size in OTHER_SIZES]
    for score, (verb, stage, parameters, _) in await _scores(agent, second):
        if score >= AGREEMENT:
            found[verb].append((score, stage, parameters))
    return {verb: sorted(kept, key=lambda route: -route[0]) for verb, kept in found.items()}
