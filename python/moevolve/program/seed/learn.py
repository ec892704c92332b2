"""How this variant turns confirmed answers into weights."""

from contract import Recipe

LEARNING_RATE = 1e-3
STEPS = 200
BATCH = 96
RECENT = 0.6
PROGRAM_SHARE = 0.5
FOCUS = 0.5


def recipe(report):
    return Recipe(
        learning_rate=LEARNING_RATE,
        steps=STEPS,
        batch=BATCH,
        recent=RECENT,
        program_share=PROGRAM_SHARE,
        focus=FOCUS,
    )
