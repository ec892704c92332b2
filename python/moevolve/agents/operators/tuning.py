"""Operators on `improve.py` and `learn.py`: their module-level constants, changed in the tree."""

from . import source
from .source import Inapplicable

WEIGHTS = "OPERATOR_WEIGHTS"
LEAST, MOST = 0.2, 16.0

STEPS = {
    "LEARNING_RATE": (0.5, 0.7, 1.4, 2.0),
    "STEPS": (0.7, 1.4),
    "RECENT": (0.8, 1.2),
    "PROGRAM_SHARE": (0.7, 1.4),
    "FOCUS": (0.6, 1.5),
}
"""Factors by which one change of the recipe moves a constant."""

BOUNDS = {
    "LEARNING_RATE": (1e-4, 5e-3),
    "STEPS": (20, 300),
    "RECENT": (0.1, 0.95),
    "PROGRAM_SHARE": (0.1, 0.9),
    "FOCUS": (0.05, 1.0),
}


def reweigh(text, history):
    """Shifts the improver's weights toward operators whose proposals were promoted or gained, away from the
    others."""
    tree = source.parse(text)
    weights = source.constants(tree).get(WEIGHTS)
    if not isinstance(weights, dict):
        raise Inapplicable(f"there is no dictionary {WEIGHTS}")
    moved = dict(weights)
    for trial in history:
        for name in set(trial.operator.split("+")) & moved.keys():
            gained = trial.gain > 0 and trial.decision != "veto"
            factor = 1.3 if trial.decision in ("promote", "hold") else 1.05 if gained else 0.95
            moved[name] = min(MOST, max(LEAST, moved[name] * factor))
    moved = {name: round(weight, 3) for name, weight in moved.items()}
    if moved == weights:
        raise Inapplicable("history gives no reason to change the weights")
    source.set_constants(tree, {WEIGHTS: moved})
    most = max(moved, key=lambda name: moved[name] / weights[name])
    return source.render(tree), f"prefer {most}: weight {weights[most]:g} to {moved[most]:g}"


def refocus(text, rng):
    """Makes the improver care more, or less, for the weakest skills."""
    tree = source.parse(text)
    focus = source.constants(tree).get("FOCUS")
    if not isinstance(focus, int | float):
        raise Inapplicable("there is no FOCUS")
    moved = round(min(8.0, max(0.25, focus * rng.choice((0.6, 1.6)))), 3)
    if moved == focus:
        raise Inapplicable("the focus is at its bound")
    source.set_constants(tree, {"FOCUS": moved})
    return source.render(tree), f"focus on weak skills {focus:g} to {moved:g}"


def retune(text, rng):
    """Moves one constant of the learning recipe."""
    tree = source.parse(text)
    known = source.constants(tree)
    names = sorted(name for name in STEPS if isinstance(known.get(name), int | float))
    if not names:
        raise Inapplicable("the recipe has no constant to move")
    name = rng.choice(names)
    low, high = BOUNDS[name]
    moved = min(high, max(low, known[name] * rng.choice(STEPS[name])))
    moved = round(moved) if isinstance(known[name], int) else float(f"{moved:.3g}")
    if moved == known[name]:
        raise Inapplicable(f"{name} is at its bound")
    source.set_constants(tree, {name: moved})
    return source.render(tree), f"{name.lower().replace('_', ' ')} {known[name]:g} to {moved:g}"
