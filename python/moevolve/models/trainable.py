"""A decoder that learns: supervised steps, policy losses over rollouts, adapters beside frozen weights."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import msgspec

from moevolve import _native
from moevolve.errors import UsageError
from moevolve.models.advantages import Loss, weighed
from moevolve.models.decoder import Decoder
from moevolve.protocol.training import Example, Rollout, StepReport

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""What an adapter can stand beside."""

RATE = 1e-4
"""Learning rate of a policy step where nobody says another."""


class TrainableDecoder(Decoder):
    """A decoder whose weights, or the adapter beside them, change by AdamW."""

    def reset_optimizer(
        self,
        *,
        beta1: float = 0.9,
        beta2: float = 0.95,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip: float = 1.0,
        bias_rate: float = 0.0,
    ) -> None:
        """Begins training anew: AdamW with zero moments.

        Args:
            beta1: decay of the mean.
            beta2: decay of the mean square.
            eps: added to the root.
            weight_decay: times the learning rate, off every tensor alike.
            clip: largest global norm of the gradient.
            bias_rate: how far a step moves each router's selection bias towards balanced experts; 0 leaves them alone.

        Raises:
            UsageError: a number out of range.
        """
        self.native.reset_optimizer(beta1, beta2, eps, weight_decay, clip, bias_rate)

    def train(self, examples: Sequence[Example], rate: float, *, norms: bool = False) -> StepReport:
        """One optimiser step of cross-entropy: the weighted mean over all answer tokens given what stands before them.

        Args:
            examples: the batch; texts are encoded as `generate` encodes a prompt, with an end token after the answer.
            rate: learning rate.
            norms: tell the norms of the experts' gradients too.

        Raises:
            UsageError: an example that cannot be learnt, or weights that do not train; names its index.
            MoevolveError: the loss or its gradient is not finite; the weights are unchanged.
        """
        report = self.native.train_step([self.encoded(example) for example in examples], rate, norms)
        return msgspec.convert(report, StepReport, from_attributes=True)

    def reinforce(
        self,
        rollouts: Sequence[Rollout],
        rate: float = RATE,
        *,
        loss: Loss = "cispo",
        clip: tuple[float, float] = (0.2, 0.28),
        kl: float = 0.0,
        length: int = 0,
        norms: bool = False,
    ) -> StepReport:
        """One optimiser step of a policy's loss over sampled answers.

        With r the ratio of a token's probability to the one it was drawn with and A its advantage: `cispo` (MiniMax-M1,
        2025) is -min(r, 1 + high) A ln pi, whose weight is not differentiated; `grpo` (DeepSeekMath, 2024), `dapo` (2025)
        and `dr_grpo` (2025) are -min(r A, clip(r, 1 - low, 1 + high) A). `cispo` and `dapo` are means over all tokens,
        `grpo` over each answer's tokens and then over answers, `dr_grpo` sums over `length` and then means over answers.

        Args:
            rollouts: the batch; of a group of rewards that are all alike none is learnt from.
            rate: learning rate.
            loss: which one.
            clip: (low, high), distances of the ratio's bounds from 1; CISPO has no lower one.
            kl: weight of e^d - d - 1, d = ln pi_reference - ln pi; every rollout then has a `reference`.
            length: tokens that `dr_grpo` divides by.
            norms: tell the norms of the experts' gradients too.

        Raises:
            UsageError: an unknown loss, a number out of range, a rollout whose lists do not fit, or nothing to learn from.
            MoevolveError: the loss or its gradient is not finite; the weights are unchanged.
        """
        low, high = clip
        report = self.native.policy_step(
            weighed(rollouts, loss),
            rate,
            loss,
            clip_low=low,
            clip_high=high,
            kl=kl,
            length=length,
            norms=norms,
        )
        return msgspec.convert(report, StepReport, from_attributes=True)

    def gradients(self, examples: Sequence[Example]) -> tuple[float, dict[str, _native.Tensor]]:
        """The loss of `train` and its gradient by every tensor's released name; an adapter's by PEFT's."""
        return self.native.gradients([self.encoded(example) for example in examples])

    def logprobs(self, batch: Sequence[Example | Rollout], *, base: bool = False) -> list[list[float]]:
        """Natural log-probability of each answer token given what stands before it, one list a sequence.

        Args:
            batch: weights, advantages and log-probabilities in it do not matter.
            base: leave the adapter out.

        Raises:
            UsageError: a sequence without an answer, or with an unknown token; names its index.
        """
        rows = [self.encoded(each) if isinstance(each, Example) else each for each in batch]
        return self.native.logprobs(rows, base)

    def encoded(self, example: Example) -> Example:
        """The example in tokens.

        Raises:
            UsageError: it has tokens and texts, or texts without a tokenizer.
        """
        if not (example.prompt or example.answer):
            return example
        if example.tokens:
            raise UsageError("an example has tokens, or a prompt and an answer, not both")
        prompt = self.encode(example.prompt)
        tokens = prompt + self.encode(example.answer, whole=False) + self.ending
        return msgspec.structs.replace(example, tokens=tokens, start=len(prompt), prompt="", answer="")

    @property
    def checkpointing(self) -> bool:
        """Whether training keeps each layer's input alone and computes the rest again: a third more work, much less
        memory, and the same bits."""
        return self.native.checkpointing

    @checkpointing.setter
    def checkpointing(self, checkpointing: bool) -> None:
        self.native.checkpointing = checkpointing

    def save_training(self, folder: str | PathLike[str], state: str = "") -> None:
        """Writes what trains, the optimiser and the caller's `state`, so that training can go on to the bit."""
        self.native.save_training(fspath(folder), state)

    def load_training(self, folder: str | PathLike[str]) -> str:
        """Takes training up where `save_training` left it; returns the caller's state.

        Raises:
            CheckpointError: a file is missing or torn, belongs to another model, or to another step than its neighbour.
        """
        return self.native.load_training(fspath(folder))

    def adapt(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        targets: Sequence[str] = TARGETS,
        *,
        root: bool = False,
        seed: int = 0,
    ) -> None:
        """Freezes the weights and puts a LoRA adapter beside them: y = W x + (alpha / rank) B A x (Hu et al. 2021).

        From here training changes the adapter alone, in f32, whatever the weights are stored in. The optimiser keeps its
        settings and begins with fresh moments.

        Args:
            rank: of A (rank, inputs) and B (outputs, rank).
            alpha: how much the adapter counts.
            targets: which matrices of every layer; the experts' gate, up and down projections are called so in every
                family.
            root: divide alpha by the root of the rank (Kalajdzievski 2023).
            seed: draws A; B starts at zero, so that nothing changes yet.

        Raises:
            UsageError: a number out of range, an unknown target, or there is an adapter already.
        """
        self.native.adapt(rank, alpha, list(targets), root, seed)

    @property
    def adapter(self) -> dict[str, Any] | None:
        """Rank, alpha, targets and number of parameters of the adapter; None without one."""
        return self.native.adapter

    def merge(self) -> None:
        """Adds the adapter to the weights, which train from here with fresh moments; stored ones become f32.

        Raises:
            UsageError: there is no adapter.
        """
        self.native.merge()

    def save_adapter(self, folder: str | PathLike[str]) -> None:
        """Writes a folder that PEFT loads: `adapter_config.json` and `adapter_model.safetensors`."""
        self.native.save_adapter(fspath(folder), self.origin)
