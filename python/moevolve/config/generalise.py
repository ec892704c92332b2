"""The table of a run's configuration about what its champion does beside the tasks that it was worked on with."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from moevolve.config.schema import Section


class GeneraliseSection(Section, frozen=True):
    per_cell: Annotated[
        int,
        Meta(
            description="At the end, score seed and champion on so many sealed tasks per (skill, level) of what the run "
            "never worked on (higher levels, skills that `suite.skills` leaves out), and on those of the screening; 0: not "
            "at all",
            ge=0,
            le=1000,
        ),
    ] = 0
    levels: Annotated[int, Meta(description="Levels above the run's that this looks at", ge=1, le=64)] = 4
