"""The engine as people use it: prompts in, completions out, over the native decoder."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import overload

import msgspec

from moevolve import _native
from moevolve.errors import UsageError
from moevolve.randomness import key


class Completion(msgspec.Struct, frozen=True):
    """One sampled answer. `logprobs` are natural logs under temperature 1, one per token."""

    text: str
    tokens: list[int]
    logprobs: list[float]
    finish: str
    """`stop` when an end token was drawn, `length` at the token limit."""


class Samples(tuple[Completion, ...]):
    """The completions of one prompt; `.text` and `.tokens` are the first one's."""

    __slots__ = ()

    @property
    def text(self) -> str:
        return self[0].text

    @property
    def tokens(self) -> list[int]:
        return self[0].tokens


class Engine:
    """A MiniMax-M2 family decoder on this machine.

    Args:
        native: the loaded decoder; use `Engine.load`.
    """

    def __init__(self, native: _native.Engine) -> None:
        self.native = native

    @classmethod
    def load(cls, path: str | PathLike[str], *, threads: int = 0, precision: str = "f32") -> Engine:
        """Loads a Hugging Face folder (config.json, safetensors, tokenizer.json where there is one).

        Args:
            path: the checkpoint's folder.
            threads: CPU threads; 0 takes all cores. Results do not depend on it.
            precision: what the operands of products are rounded to, `f32` or `bf16`; `fastest` takes bf16 where the
                processor multiplies it at twice the rate. Sums and weights are f32 in either.

        Raises:
            CheckpointError: a file is missing, torn, alien, or does not match the others; the message names it.
            UsageError: an unknown precision.
        """
        native = _native.Engine.load(fspath(path), threads)
        if precision != native.precision:
            native.precision = precision
        return cls(native)

    def save(self, path: str | PathLike[str], *, dtype: str | None = None) -> None:
        """Writes a folder that transformers loads. `dtype` is `f32` or `bf16`; None keeps the loaded one."""
        self.native.save(fspath(path), dtype)

    def clone(self) -> Engine:
        """A copy with weights of its own."""
        return Engine(self.native.clone())

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return self.native.parameters

    def logits(self, ids: Sequence[Sequence[int]]) -> _native.Tensor:
        """Next-token scores, float32 of shape (batch, time, vocabulary).

        The result supports the buffer protocol, so `numpy.asarray` reads it without a copy. Rows of unequal length
        are right-padded; padded positions hold NaN.
        """
        return self.native.logits([list(row) for row in ids])

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        max_tokens: int = 64,
        n: int = 1,
        temperature: float | None = None,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[Samples]:
        """Completes every prompt `n` times.

        A sample depends on its prompt, its place in the call and `seed` alone, never on what else is in the batch.

        Args:
            prompts: texts, or token ids for a checkpoint without a tokenizer.
            max_tokens: most new tokens a sample.
            n: samples a prompt.
            temperature: 0 is greedy; None is greedy for `n=1` and 1.0 for more samples.
            top_p: nucleus mass in (0, 1].
            seed: draws other samples.

        Returns:
            One `Samples` a prompt: `out[i][j].text`, or `out[i].text` for the first.

        Raises:
            UsageError: an argument out of range, or a text prompt without a tokenizer.
        """
        heat = (0.0 if n == 1 else 1.0) if temperature is None else temperature
        if n < 1 or max_tokens < 1 or heat < 0 or not 0 < top_p <= 1:
            raise UsageError("generate needs n >= 1, max_tokens >= 1, temperature >= 0 and 0 < top_p <= 1")
        requests = [
            (
                self._encode(prompt),
                [key(seed, "generate", index, sample) for sample in range(n)],
                max_tokens,
                heat,
                top_p,
            )
            for index, prompt in enumerate(prompts)
        ]
        return [Samples(self._completion(s) for s in samples) for samples in self.native.generate(requests)]

    @overload
    def _encode(self, prompt: str) -> list[int]: ...
    @overload
    def _encode(self, prompt: Sequence[int]) -> list[int]: ...
    def _encode(self, prompt: str | Sequence[int]) -> list[int]:
        if not isinstance(prompt, str):
            return list(prompt)
        if not self.native.has_tokenizer:
            raise UsageError("this checkpoint has no tokenizer.json: pass token ids instead of text")
        return self.native.encode(prompt)

    def _completion(self, sample: tuple[list[int], list[float], str]) -> Completion:
        tokens, logprobs, finish = sample
        text = self.native.decode(tokens) if self.native.has_tokenizer else ""
        return Completion(text=text, tokens=tokens, logprobs=logprobs, finish=finish)
