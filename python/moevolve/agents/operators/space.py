"""The space of routes: which stages there are, what their parameters may be, and how a route reads in a
summary."""

VERB = "a verb"
"""Stands for any verb of the suite other than the route's own."""

ABOVE = (0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14)
SIZES = (3, 4, 5, 6, 8)
SAMPLES = (1, 1, 1, 5)
CUTS = ("even", "even", "change", "range")
JOINS = ("order", "reversed")

STAGES = {
    "ask": {},
    "vote": {"samples": (4, 8, 16), "temperature": (0.4, 0.7, 1.0)},
    "retry": {"samples": (3, 5), "temperature": (0.4, 0.7, 1.0)},
    "split": {"size": SIZES, "above": ABOVE, "cut_at": CUTS, "join": JOINS, "samples": SAMPLES},
    "carry": {"size": SIZES, "above": ABOVE, "samples": SAMPLES},
    "fold": {"size": SIZES, "above": ABOVE, "through": VERB, "glue": ("+", ",", ""), "samples": SAMPLES},
    "columns": {"size": (2, 3, 4), "above": ABOVE, "samples": SAMPLES},
    "offset": {"size": (8, 10, 12), "above": ABOVE, "through": VERB, "back": VERB},
    "inverse": {"size": (2, 3), "above": ABOVE, "back": VERB, "samples": (4, 8, 16)},
    "steps": {},
    "chain": {"verbs": VERB},
    "doubt": {
        "samples": (4, 8),
        "temperature": (0.5, 0.8),
        "agreement": (0.5, 0.7, 0.9),
        "size": SIZES,
        "cut_at": CUTS,
        "join": JOINS,
    },
    "verified": {"samples": (4, 8), "temperature": (0.5, 0.8, 1.0), "through": VERB},
    "window": {"size": (2, 3, 4), "above": ABOVE, "say": (0, 3, 4), "samples": SAMPLES},
    "swapped": {"samples": (4, 8), "temperature": (0.4, 0.7)},
    "recalled": {"k": (1, 2, 4), "words": (0.0, 0.5, 1.0)},
}


def draw(rng, stage, verb, verbs, above=None):
    """Random parameters of a stage for a verb.

    Args:
        rng: source of the draw.
        stage: name of the stage.
        verb: the route's own.
        verbs: all verbs of the suite, sorted.
        above: the length that needs no splitting, if it is known.
    """
    others = [other for other in verbs if other != verb] or [verb]
    parameters = {}
    for name, values in STAGES[stage].items():
        if name == "verbs":
            parameters[name] = tuple(rng.sample(others, min(2, len(others))))
        elif values == VERB:
            # Half of the time the skill itself: it may be its own inverse, or its own fold.
            parameters[name] = verb if rng.random() < 0.5 else rng.choice(others)
        elif name == "above" and above is not None:
            parameters[name] = above
        else:
            parameters[name] = rng.choice(values)
    return parameters


def mutate(rng, stage, parameters, verb, verbs):
    """The same stage with one parameter changed; None if it has none to change."""
    fresh = draw(rng, stage, verb, verbs)
    movable = sorted(name for name in parameters if name in fresh)
    if not movable:
        return None
    name = rng.choice(movable)
    for _ in range(8):
        if fresh[name] != parameters[name]:
            return parameters | {name: fresh[name]}
        fresh = draw(rng, stage, verb, verbs)
    return None


def describe(verb, stage, parameters):
    """A route in words that are the same for the same route: `rev: split(size 4, reversed, above 7)`."""
    words = []
    for name, value in parameters.items():
        if name in ("cut_at", "join"):
            words += [value] if value not in ("even", "order") else []
        elif name == "verbs":
            words.append(", ".join(value))
        elif (name, value) != ("samples", 1) and value != "":
            words.append(f"{name} {value}")
    return f"{verb}: {stage}({', '.join(words)})"
