"""How this variant turns confirmed answers into weights."""

from contract import Recipe

LEARNING_RATE = 6e-4
STEPS = 300
BATCH = 96
RECENT = 0.6
PROGRAM_SHARE = 0.4
FOCUS = 0.7


def recipe(report):
    return Recipe(
        learning_rate=LEARNING_RATE,
        steps=STEPS,
        batch=BATCH,
        recent=RECENT,
        program_share=PROGRAM_SHARE,
        focus=FOCUS,
    )
