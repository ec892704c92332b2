"""The table `[memory]` of a run's configuration: what is recalled, what is written, and how its worth is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from moevolve.config.schema import Section

Mode = Literal["on", "off", "shuffled", "poisoned"]
Weight = Annotated[float, Meta(ge=0.0, le=100.0)]


class MemorySection(Section, frozen=True):
    mode: Annotated[
        Mode,
        Meta(
            description="on; off: nothing is recalled or written; for studies: shuffled recalls other lessons than those "
            "that fit, poisoned writes a wrong answer beside every confirmed one"
        ),
    ] = "on"
    shared: Annotated[
        str | None,
        Meta(
            description="A memory's folder that outlives runs: copied into the run when it starts, and given what "
            "helped when it ends"
        ),
    ] = None
    embedder: Annotated[
        Literal["auto", "policy", "hashed-ngrams", "none"],
        Meta(
            description="What turns texts into vectors: policy, the first weights' mean hidden state; hashed-ngrams, "
            "without a model; none, words alone; auto: policy, or hashed-ngrams where a server answers"
        ),
    ] = "auto"
    words: Annotated[Weight, Meta(description="Weight of words (BM25) in a lesson's score")] = 0.5
    vector: Annotated[Weight, Meta(description="Weight of the vectors' nearness")] = 0.5
    trust: Annotated[
        float,
        Meta(description="How much more a lesson of full trust scores than one of none", ge=0.0, le=2.0),
    ] = 0.5
    without: Annotated[
        float,
        Meta(
            description="Share of practice attempts that recalled something which are made again without memory: what "
            "memory is worth, and each lesson, is told from them",
            ge=0.0,
            le=1.0,
        ),
    ] = 0.1
    keep: Annotated[
        int,
        Meta(description="Right and wrong attempts kept of each (skill, level) in a cycle", ge=0, le=1000),
    ] = 2
    quota: Annotated[int, Meta(description="Texts that programs may add in a cycle", ge=0, le=10**4)] = 32
