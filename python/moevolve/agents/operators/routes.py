"""Operators on `solve.py`: each takes the source and returns the edited source with a summary, or is
inapplicable."""

from . import source, space
from .source import Inapplicable


def add(text, chosen):
    """Gives each verb of `chosen` (verb -> (stage, parameters)) its route, in place of the one it had."""
    tree = source.parse(text)
    for verb, (stage, parameters) in chosen.items():
        source.set_route(tree, verb, stage, parameters)
    source.prune(tree)
    return source.render(tree), "; ".join(space.describe(v, s, p) for v, (s, p) in chosen.items())


def remove(text, rng):
    """Takes one route away."""
    tree = source.parse(text)
    verb = _some(rng, source.routes(tree))
    source.drop_route(tree, verb)
    return source.render(tree), f"{verb}: ask again without a route"


def mutate(text, rng, verbs):
    """Changes one parameter of one route."""
    tree = source.parse(text)
    known = source.routes(tree)
    verb = _some(rng, known)
    stage, parameters = known[verb]
    changed = space.mutate(rng, stage, parameters, verb, verbs) if stage in space.STAGES else None
    if changed is None:
        raise Inapplicable(f"the route of {verb} has nothing to change")
    return add(text, {verb: (stage, changed)})


def swap(text, rng, verbs):
    """Lets another skill go the way that one skill goes."""
    tree = source.parse(text)
    known = source.routes(tree)
    giver = _some(rng, known)
    takers = [verb for verb in verbs if known.get(verb) != known[giver]]
    if not takers:
        raise Inapplicable("every skill goes this way already")
    return add(text, {rng.choice(takers): known[giver]})


def refit(text, lengths):
    """Moves every route's length above which it splits to what the bare policy now masters (`lengths` by
    verb)."""
    tree = source.parse(text)
    chosen = {}
    for verb, (stage, parameters) in source.routes(tree).items():
        if "above" in parameters and verb in lengths and parameters["above"] != lengths[verb]:
            chosen[verb] = (stage, parameters | {"above": lengths[verb]})
    if not chosen:
        raise Inapplicable("every route splits where it should")
    return add(text, chosen)


def _some(rng, known):
    if not known:
        raise Inapplicable("there is no route yet")
    return rng.choice(sorted(known))
