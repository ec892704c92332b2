"""The answer is the policy's: what a program returns must be put together from whole completions."""

from __future__ import annotations

import math
from collections.abc import Iterable

SHORTEST_MEAN = 1.5
"""Characters that the pieces of a joined answer must have on average: one-letter completions could spell
anything."""


def built_from(answer: str, completions: Iterable[str]) -> bool:
    """Whether `answer` is one completion or a concatenation of whole completions, each used any number of
    times.

    A completion counts with and without the blanks around it. The pieces of a join must have `SHORTEST_MEAN`
    characters on average. Dynamic programming over positions: O(length x distinct piece lengths).
    """
    pieces = {form for text in completions for form in (text, text.strip())}
    if answer in pieces:
        return True
    pieces.discard("")
    lengths = sorted({len(piece) for piece in pieces if len(piece) < len(answer)})
    if not answer or not lengths:
        return False
    unreachable = len(answer) + 1
    fewest = [0] + [unreachable] * len(answer)
    for end in range(1, len(answer) + 1):
        for length in lengths:
            if length > end:
                break
            before = fewest[end - length]
            if before + 1 < fewest[end] and answer[end - length : end] in pieces:
                fewest[end] = before + 1
    return fewest[-1] <= math.ceil(len(answer) / SHORTEST_MEAN)
