"""The table `[memory]` of a run's configuration: what is recalled, what is written, and how its worth is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from moevolve.config.schema import PolicySection, Section

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
        Literal["auto", "policy", "hashed-ngrams", "endpoint", "none"],
        Meta(
            description="What turns texts into vectors: policy, the first weights' mean hidden state; hashed-ngrams, "
            "without a model; endpoint, the server below; none, words alone; auto: policy, or "
            "hashed-ngrams where a server answers"
        ),
    ] = "auto"
    endpoint: Annotated[
        str | None,
        Meta(description="Base address of an OpenAI-compatible server of embeddings, up to its /v1"),
    ] = None
    model: Annotated[
        Annotated[str, Meta(min_length=1, max_length=128)] | None,
        Meta(description="That server's name of the model"),
    ] = None
    key_env: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")] | None,
        Meta(description="Environment variable that holds that server's key; never the key itself"),
    ] = None
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
    consolidate: Annotated[
        bool,
        Meta(description="Make lessons one that say the same, once attempts do not tell them apart"),
    ] = True
    keep: Annotated[
        int,
        Meta(description="Right and wrong attempts kept of each (skill, level) in a cycle", ge=0, le=1000),
    ] = 2
    quota: Annotated[int, Meta(description="Texts that programs may add in a cycle", ge=0, le=10**4)] = 32

    def __post_init__(self) -> None:
        if self.embedder != "endpoint":
            if (self.endpoint, self.model, self.key_env) != (None, None, None):
                raise ValueError('endpoint, model and key_env belong to embedder = "endpoint"')
        elif self.endpoint is None or self.model is None:
            raise ValueError('embedder = "endpoint" needs `endpoint` and `model`')
        else:
            # The same address rules as the policy's.
            PolicySection(endpoint=self.endpoint, model=self.model, key_env=self.key_env)
