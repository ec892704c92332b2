"""Names of operators that no proposal may bear: what the run itself is called by, whose records they would pass for."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from moevolve.journal.text import line

OPERATORS = ("seed", "distill", "reinforce", "feedback", "rollback", "rolled back", "imported")
"""What made the variants that no proposer made; a name may not begin with one of them either."""
STAGES = (
    *(
        "practise",
        "practice",
        "learn",
        "search",
        "improve",
        "propose",
        "screen",
        "gate",
        "guard",
        "score",
        "attend",
    ),
    *("train", "dev", "sealed", "direct", "program", "weights", "initial", "cycle", "final"),
)
ROLES = (
    "solver",
    "improver",
    "proposer",
    "learner",
    "judge",
    "grader",
    "champion",
    "candidate",
    "host",
    "run",
    "person",
)
LONGEST = 64


def is_free(operator: str, skills: Iterable[str] = ()) -> bool:
    """Whether a proposal may call its operator so: a plain word that is no name of the run's own.

    Args:
        operator: the name; several joined by `+` are each looked at.
        skills: paths of the run's skills, which are taken as well, their branches included.
    """
    if not operator.strip() or len(operator) > LONGEST or line(operator) != operator:
        return False
    taken = {*OPERATORS, *STAGES, *ROLES}
    for path in skills:
        parts = path.casefold().split("/")
        taken |= {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    names = [" ".join(name.split()) for name in _folded(operator).split("+")]
    return not any(name in taken or name.startswith(OPERATORS) or not name for name in names)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
