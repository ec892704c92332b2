"""How this variant proposes better programs: operators on its own source, chosen by weight, aimed at weak
skills."""

import contextlib

from contract import Edit
from operators import Inapplicable, probe, refine, routes, source, space, survey, tuning

OPERATOR_WEIGHTS = {
    "split": 6.0,
    "carry": 1.0,
    "columns": 1.0,
    "fold": 2.0,
    "offset": 0.5,
    "inverse": 0.5,
    "steps": 0.5,
    "window": 0.5,
    "vote": 1.5,
    "doubt": 1.0,
    "chain": 1.0,
    "verified": 1.0,
    "swapped": 0.5,
    "retry": 0.5,
    "recalled": 0.3,
    "mutate": 2.0,
    "refit": 1.0,
    "swap": 0.5,
    "remove": 0.3,
}
FOCUS = 2.0
AT_ONCE = 3
GOOD_ENOUGH = 0.97
SELF_EDITS = 0.4
SPLITTING = ("split", "carry", "columns", "fold", "offset", "inverse", "steps", "window")


def weak(skills):
    """Skills that have something to gain."""
    return [skill for skill in skills if skill.success < GOOD_ENOUGH]


def pick(skills, rng):
    """One skill, the weaker the likelier."""
    return rng.choices(skills, [(1.001 - skill.success) ** FOCUS for skill in skills])[0]


def shuffled(skills, rng):
    """All skills, the weaker the earlier as a rule."""
    left, order = list(skills), []
    while left:
        order.append(pick(left, rng))
        left.remove(order[-1])
    return order


def kind(route):
    """What a route does, apart from when it starts to and how often it asks."""
    stage, parameters = route
    return stage, {name: value for name, value in parameters.items() if name not in ("above", "samples")}


def fitted(skill, stage, parameters):
    """A probed route that leaves alone what the bare policy does safely."""
    if "above" not in parameters:
        return stage, parameters
    return stage, parameters | {"above": max(skill.safe, parameters.get("size", 0))}


def proven(skills, found, current):
    """Routes that agreed with known answers and are not in the program yet, weakest skill first."""
    chosen = {}
    for skill in skills:
        good = found.get(skill.verb, [])
        best = [(stage, parameters) for score, stage, parameters in good if score == good[0][0]]
        if best and (skill.verb not in current or kind(current[skill.verb]) not in map(kind, best)):
            chosen[skill.verb] = fitted(skill, *best[0])
    return chosen


def voted(chosen, found):
    """The same routes with votes on the parts wherever a probe did not agree fully."""
    doubtful = {verb for verb, good in found.items() if good[0][0] < 1}
    return {
        verb: (
            stage,
            parameters | {"samples": 5} if verb in doubtful and "samples" in parameters else parameters,
        )
        for verb, (stage, parameters) in chosen.items()
    }


def refined(better):
    """Plans that should do better than the program's: the best of every skill together, then each by itself, then the second
    best of each."""
    best = {verb: trials[0][1:] for verb, trials in better.items()}
    singles = sorted(better, key=lambda verb: -better[verb][0][0])
    second = [{verb: better[verb][1][1:]} for verb in singles if len(better[verb]) > 1]
    return [*([best] if len(best) > 1 else []), *({verb: best[verb]} for verb in singles), *second]


def new_routes(name, skills, verbs, found, probed, rng):
    """Routes through the stage `name` for some weak skills; a stage that splits needs a probe's support."""
    chosen = {}
    for _ in range(rng.randint(1, AT_ONCE)):
        skill = pick(skills, rng)
        same = [route for route in found.get(skill.verb, []) if route[1] == name]
        if same:
            _, stage, parameters = rng.choice(same)
            votes = {"samples": rng.choice((1, 5))} if "samples" in parameters else {}
            chosen[skill.verb] = fitted(skill, stage, parameters | votes)
        elif not probed or name not in SPLITTING:
            chosen[skill.verb] = (name, space.draw(rng, name, skill.verb, verbs, skill.safe or None))
    if not chosen:
        raise Inapplicable(f"no probe speaks for {name}")
    return chosen


def edit(text, name, skills, verbs, found, probed, rng):
    """One edit of `solve.py` by the operator `name`."""
    if name == "mutate":
        return routes.mutate(text, rng, verbs)
    if name == "swap":
        return routes.swap(text, rng, verbs)
    if name == "remove":
        return routes.remove(text, rng)
    if name == "refit":
        return routes.refit(text, {skill.verb: skill.safe for skill in skills if skill.safe})
    return routes.add(text, new_routes(name, skills, verbs, found, probed, rng))


def self_edit(brief, rng):
    """An edit of this file or of the recipe; its worth shows in children and in training, not in a score."""
    if brief.learns and rng.random() < 0.5:
        text, summary = tuning.retune(brief.source["learn.py"], rng)
        return Edit("learn.py", text, "retune", summary)
    if rng.random() < 0.7:
        text, summary = tuning.reweigh(brief.source["improve.py"], brief.history)
        return Edit("improve.py", text, "reweigh", summary)
    text, summary = tuning.refocus(brief.source["improve.py"], rng)
    return Edit("improve.py", text, "refocus", summary)


async def improve(brief, agent):
    rng = agent.rng
    text = brief.source["solve.py"]
    everyone = survey.survey(brief)
    verbs = sorted(skill.verb for skill in everyone)
    skills = weak(everyone) or everyone
    tried = {trial.summary for trial in brief.history}
    candidates = []

    def propose(operator, edited, summary):
        if summary not in tried and edited != text:
            tried.add(summary)
            candidates.append([Edit("solve.py", edited, operator, summary)])

    current = source.routes(source.parse(text))
    without = [skill for skill in skills if skill.verb not in current]
    found = await probe.probe(agent, without) if brief.limits.requests else {}
    fresh = proven(skills, found, current)
    names = list(fresh)
    for chosen in (fresh, *({verb: fresh[verb] for verb in names[i : i + AT_ONCE]} for i in (0, AT_ONCE))):
        if chosen:
            propose("proven", *routes.add(text, chosen))
    if fresh:
        propose("proven", *routes.add(text, voted(fresh, found)))

    asked = [] if fresh or not brief.limits.requests else shuffled(skills, rng)
    for chosen in refined(await refine.refine(agent, asked, current, verbs, tried)):
        stage = next(iter(chosen.values()))[0] if len(chosen) == 1 else "combine"
        propose(stage, *routes.add(text, chosen))

    for _ in range(40 * brief.candidates):
        if len(candidates) >= brief.candidates or not skills:
            break
        name = rng.choices(list(OPERATOR_WEIGHTS), list(OPERATOR_WEIGHTS.values()))[0]
        try:
            propose(name, *edit(text, name, skills, verbs, found, bool(brief.limits.requests), rng))
        except Inapplicable:
            continue
    candidates = candidates[: brief.candidates]
    if len(candidates) > 1 and rng.random() < SELF_EDITS:
        with contextlib.suppress(Inapplicable, KeyError):
            candidates[-1] = [self_edit(brief, rng)]
    return candidates
