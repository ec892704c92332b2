"""The table of a run's configuration about the growth of its skill tree."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from moevolve.config.schema import Section


class GrowthSection(Section, frozen=True):
    on: Annotated[
        bool,
        Meta(
            description="Grow the skill tree: open levels, compose, split and retire leaves, each tried on train tasks "
            "first; no score before or after counts what is grown"
        ),
    ] = False
    share: Annotated[
        float,
        Meta(description="Share of a cycle's train tasks that go to what the tree grew", gt=0.0, le=0.5),
    ] = 0.1
    leaves: Annotated[
        int, Meta(description="Most leaves that the tree has grown at one time", ge=3, le=1000)
    ] = 6
    step: Annotated[int, Meta(description="Levels that a mastered leaf opens at once", ge=1, le=64)] = 2
    trials: Annotated[int, Meta(description="Most changes that are tried in a cycle", ge=1, le=100)] = 3
    trial: Annotated[int, Meta(description="Train tasks that try a change of the tree", ge=16, le=10**4)] = 48
    sealed_per_cell: Annotated[
        int,
        Meta(description="Sealed tasks per grown (skill, level), for the growth column", ge=1, le=1000),
    ] = 4
