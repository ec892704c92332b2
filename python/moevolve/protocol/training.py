"""What training takes and tells: examples, rollouts, and the report of a step."""

from __future__ import annotations

import msgspec


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence to learn by cross-entropy: `tokens[start:]`, each given what stands before it; or a prompt and its answer.

    >>> Example(prompt="Q: 12 + 7\\nA:", answer=" 19")
    >>> Example(tokens=[5, 6, 7, 8], start=2)
    """

    tokens: list[int] = []
    """Token ids of the whole sequence, the end token included where the answer ends."""
    start: int = 0
    """Index of the answer's first token, at least 1."""
    prompt: str = ""
    answer: str = ""
    """Where `tokens` is empty: texts, which the engine encodes, with an end token after the answer."""
    weight: float = 1.0
    """What each of its tokens counts in the batch's mean."""
    positions: int | list[int] = 0
    """Rotary positions: of the first token, or one a token, increasing."""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A sampled answer, `tokens[start:]`, with the log-probabilities it was drawn with and how good it was.

    Either `advantage`, or `reward` and `group`: then the advantage is the reward less the mean of its group in the batch.
    """

    tokens: list[int]
    """Token ids of prompt and answer."""
    start: int
    """Index of the answer's first token, at least 1."""
    logprobs: list[float]
    """Natural log-probability of each answer token under the policy that drew it, at temperature 1."""
    advantage: float | list[float] | None = None
    """Of the whole answer, or one an answer token."""
    reward: float | None = None
    group: int | str = 0
    """Rollouts of one group answer the same prompt."""
    reference: list[float] | None = None
    """Log-probability of each answer token under the reference, for a KL penalty."""
    positions: int | list[int] = 0
    """Rotary positions: of the first token, or one a token, increasing."""
    age: int = 0
    """Updates of the weights since it was drawn."""


class PolicyReport(msgspec.Struct, frozen=True):
    """Statistics of the sampled tokens of a step; r is the probability of a token now over that when it was drawn."""

    ratio: float
    """Mean of r."""
    max_ratio: float
    clip_fraction: float
    """Share of the tokens whose ratio is at its bound."""
    approx_kl: float
    """Mean of (r - 1) - ln r: divergence from the policy that drew them (Schulman's k3), in nats."""
    abs_log_ratio: float
    """Mean of |ln r|."""
    reference_kl: float
    """Mean divergence from the reference, in nats."""
    entropy: float
    """Mean entropy of the next-token distributions, in nats."""
    age: float
    """Mean over the rollouts of the updates since they were drawn."""
    max_age: int


class StepReport(msgspec.Struct, frozen=True):
    """What an optimiser step saw, before it."""

    loss: float
    """Mean over the answer tokens, as the loss weighs them, in nats."""
    tokens: int
    """Answer tokens."""
    gradient_norm: float
    """Global norm before clipping."""
    expert_load: list[list[float]]
    """(layers, experts): each expert's share of the routed tokens; a layer's sum to 1."""
    expert_gradient: list[list[float]]
    """(layers, experts): norm of the gradient of each expert's weights, before clipping; empty unless asked for."""
    policy: PolicyReport | None = None
    """Of rollouts only."""
