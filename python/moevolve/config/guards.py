"""The table `[guard]` of a run's configuration: who watches the run, how sure an alarm is, and what waits for a person."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from moevolve.config.schema import Section

GuardName = Literal["drift", "canaries", "honeypots", "alignment"]
Approval = Literal["none", "weights", "program", "all"]


class GuardSection(Section, frozen=True):
    use: Annotated[
        tuple[GuardName, ...],
        Meta(description="Guards that watch the run, each with a check at promotions or once a cycle"),
    ] = ("drift", "canaries", "honeypots", "alignment")
    alpha: Annotated[
        float,
        Meta(description="Bound on the probability that an honest run ever raises an alarm", gt=0.0, lt=1.0),
    ] = 0.05
    drift_margin: Annotated[
        float, Meta(description="Fall of a skill over cycles that is no alarm", ge=0.0, lt=1.0)
    ] = 0.05
    canaries: Annotated[
        int,
        Meta(description="Tasks without an answer that a candidate gets before a promotion", ge=1, le=10**4),
    ] = 48
    honeypots: Annotated[
        int,
        Meta(
            description="Honeypots of each of five families, for candidate and champion, before a promotion",
            ge=1,
            le=1000,
        ),
    ] = 10
    probes: Annotated[
        int, Meta(description="Alignment probes of each of four families, each cycle", ge=1, le=1000)
    ] = 8
    knock_out: Annotated[
        int,
        Meta(
            description="Tasks on which a promoted program hears the policy's words for another, on record; 0: none",
            ge=0,
            le=10**4,
        ),
    ] = 48
    twin: Annotated[
        bool,
        Meta(
            description="Run the random-reward twin afterwards, as many cycles: where it gains, rewards were not the cause"
        ),
    ] = False
    approve: Annotated[
        Approval, Meta(description="Promotions that wait for a person: `moevolve approve DIR ID`")
    ] = "none"
    most_tokens: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Most tokens that the run may generate; it ends in order before it would pass them"),
    ] = None
    most_requests: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Most requests that the run may make of its policy, likewise"),
    ] = None

    def __post_init__(self) -> None:
        if len(set(self.use)) < len(self.use):
            raise ValueError("guards must each be named once")
