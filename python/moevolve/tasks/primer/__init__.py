"""The primer: twelve small skills in three branches, for policies of a few million parameters.

A prompt is a three-letter verb, a payload and `=`, as in `rev:bdca=`; its answer is `acdb`. Every level
makes the payload one character or digit longer; at level 16 it has 18 to 21. Letters come from an alphabet
of ten, so that a small model that has seen short payloads knows all symbols and lacks only length.
"""

from moevolve.tasks.primer.compose import COMPOSE
from moevolve.tasks.primer.cutters import CUTTERS
from moevolve.tasks.primer.number import NUMBER
from moevolve.tasks.primer.text import TEXT
from moevolve.tasks.skill import Skill

PRIMER: tuple[Skill, ...] = (*TEXT, *NUMBER, *COMPOSE)

REQUIRES: dict[str, tuple[str, ...]] = {
    "compose/sort_reverse": ("text/sort", "text/reverse"),
    "compose/caesar_reverse": ("text/caesar", "text/reverse"),
    "compose/dedupe_reverse": ("text/dedupe", "text/reverse"),
}
"""Skill -> the skills that its tasks build on."""

__all__ = ["CUTTERS", "PRIMER", "REQUIRES"]
