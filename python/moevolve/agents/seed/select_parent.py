"""Which variant is changed next: good ones more often, those with many children less."""

import math

SLOPE = 10.0
TOP = 3
CHILDREN = 1.0


def select_parent(archive, rng):
    """The id of an open member.

    `archive.members` are the variants in order of birth: `id`, `parent`, `children` (ids), `score` (None where none was
    measured), `wins` and `losses` on train tasks, `scores` by skill, `step` of birth, `open`. Beside them `champion` and
    `step`. The same archive and the same `rng` must choose the same.
    """
    members = [member for member in archive.members if member.open]
    known = sorted(member.score for member in members if member.score is not None)[-TOP:]
    middle = sum(known) / len(known) if known else 0.5

    def weight(member):
        score = middle if member.score is None else member.score
        quality = 1 / (1 + math.exp(-max(-60.0, min(60.0, SLOPE * (score - middle)))))
        return quality / (1 + CHILDREN * len(member.children))

    return rng.choices(members, [weight(member) for member in members])[0].id
