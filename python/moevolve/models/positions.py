"""Positions of a training sequence: offset at random, and spread out half of the time.

Rotary attention sees differences of positions only. A model trained on short sequences never meets the differences of long
ones, so half of the training sequences leave gaps between their positions: sorted draws without replacement from up to
twice their length, after "Randomized Positional Encodings Boost Length Generalization" (Ruoss et al., 2023). On the primer
suite this is what gives levels beyond the trained ones a success above zero.
"""

from random import Random

OFFSETS = 128
"""Offsets are drawn below this."""
STRETCH = 2.0
"""Spread positions lie within this many times the sequence's length."""


def training_positions(length: int, draw: Random) -> list[int]:
    """Increasing positions for `length` tokens."""
    offset = draw.randrange(OFFSETS)
    if draw.random() < 0.5:
        return list(range(offset, offset + length))
    room = int(length * draw.uniform(1.0, STRETCH)) + 1
    return [offset + position for position in sorted(draw.sample(range(room), length))]
