"""The engine as people use it: prompts in, completions out, over the native decoder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from moevolve import _native
from moevolve.errors import UsageError
from moevolve.models.stream import TextStream
from moevolve.protocol.completion import Completion, Samples
from moevolve.randomness import key

if TYPE_CHECKING:
    from moevolve.models.chat import Chat, ChatCompletion

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""What an adapter can stand beside."""

__all__ = ["Completion", "Engine", "Samples"]


class Engine:
    """A decoder of one of the six families on this machine: MiniMax-M2, Qwen3-MoE, OLMoE, Mixtral, Llama, Qwen3.

    Args:
        native: the loaded decoder; use `Engine.load`.
        origin: what to call the model in errors.
    """

    def __init__(self, native: _native.Engine, origin: str = "this model") -> None:
        self.native = native
        self.origin = origin
        self._hidden: dict[int, str] = {}

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        threads: int = 0,
        precision: str = "f32",
        weights: str = "auto",
        adapter: str | PathLike[str] | None = None,
    ) -> Engine:
        """Loads a GGUF file, or a Hugging Face folder (config.json, safetensors, tokenizer.json where there is one).

        Args:
            path: the file or folder.
            threads: CPU threads; 0 takes all cores. Results do not depend on it.
            precision: what the operands of products are rounded to, `f32` or `bf16`; `fastest` takes bf16 where the
                processor multiplies it at twice the rate. Sums and weights are f32 in either. Stored weights are
                multiplied in their own format, and only the way back through them, in training, is rounded.
            weights: `trainable` decodes them into f32, 8 to 12 bytes a parameter; `stored` keeps them mapped as the
                file has them, for reading, or for training an adapter; `auto` stores what has more than 1e8 parameters or
                is quantised.
            adapter: folder of a LoRA adapter in PEFT's layout to put beside the weights.

        Raises:
            CheckpointError: a file is missing, torn, alien, or does not match the others; the message names it.
            UsageError: an unknown precision, or another word for the weights.
        """
        native = _native.Engine.load(fspath(path), threads, weights)
        if precision != native.precision:
            native.precision = precision
        if adapter is not None:
            native.load_adapter(fspath(adapter))
        return cls(native, fspath(path))

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

        From here training changes the adapter alone, in f32, whatever the weights are stored in.

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
        """Adds the adapter to the weights, which train from here; stored ones become f32."""
        self.native.merge()

    def save_adapter(self, folder: str | PathLike[str]) -> None:
        """Writes a folder that PEFT loads: `adapter_config.json` and `adapter_model.safetensors`."""
        self.native.save_adapter(fspath(folder), self.origin)

    def save(self, path: str | PathLike[str], *, dtype: str | None = None) -> None:
        """Writes a folder that transformers loads, or, where the name ends in `.gguf`, a file that llama.cpp runs.

        An adapter is merged into what is written; `save_adapter` writes it alone.

        Args:
            path: the folder, made if it does not exist, or the file.
            dtype: `f32`, `bf16` or `f16`, None for what was loaded; of a GGUF file `f32`, `f16`, `q8_0`, `q4_0` or
                `q4_k`, None for `f16`.

        Raises:
            CheckpointError: it cannot be written, or GGUF has no place for a part of the model; the message names it.
        """
        self.native.save(fspath(path), dtype)

    def clone(self) -> Engine:
        """A copy with weights of its own."""
        return Engine(self.native.clone(), self.origin)

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

    @cached_property
    def positions(self) -> int | None:
        """Most tokens of a sequence, where the model's configuration says so."""
        found = json.loads(self.native.config()).get("max_position_embeddings")
        return found if isinstance(found, int) else None

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        max_tokens: int | Sequence[int] = 64,
        n: int = 1,
        temperature: float | None = None,
        top_p: float = 1.0,
        seed: int = 0,
        first: int = 0,
    ) -> list[Samples]:
        """Completes every prompt `n` times.

        A sample depends on its prompt, its place in the call and `seed` alone, never on what else is in the batch.

        Args:
            prompts: texts, or token ids for a checkpoint without a tokenizer.
            max_tokens: most new tokens a sample: one number, or one a prompt.
            n: samples a prompt.
            temperature: 0 is greedy; None is greedy for `n=1` and 1.0 for more samples.
            top_p: nucleus mass in (0, 1].
            seed: draws other samples.
            first: place of the first prompt, where a longer list comes in several calls.

        Returns:
            One `Samples` a prompt: `out[i][j].text`, or `out[i].text` for the first.

        Raises:
            UsageError: an argument out of range, or a text prompt without a tokenizer.
        """
        heat = heat_of(temperature, n)
        most = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else list(max_tokens)
        for limit in most or [1]:
            _check(n, limit, heat, top_p)
        requests = [
            (
                self.encode(prompt),
                [key(seed, "generate", first + index, sample) for sample in range(n)],
                limit,
                heat,
                top_p,
            )
            for index, (prompt, limit) in enumerate(zip(prompts, most, strict=True))
        ]
        return [Samples(self._completion(s) for s in samples) for samples in self.native.generate(requests)]

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        place: tuple[int, int] = (0, 0),
        marks: Sequence[str] | None = (),
    ) -> TextStream:
        """One completion as it is drawn: an iterator of pieces, with the tokens that `generate` draws.

        Args:
            prompt: a text, or token ids.
            max_tokens, temperature, top_p, seed: as of `generate`.
            place: the prompt's place in the call to `generate` that draws the same, and the sample's in its prompt.
            marks: special tokens that show in the text all the same; None shows every one.

        Raises:
            UsageError: as `generate`.
        """
        _check(1, max_tokens, temperature, top_p)
        tokens = self.native.stream(
            self.encode(prompt), key(seed, "generate", *place), max_tokens, temperature, top_p
        )
        if not self.native.has_tokenizer:
            return TextStream(tokens, lambda ids: "")
        return TextStream(
            tokens, lambda ids: self.native.decode(ids, False), lambda token: self.shows(token, marks)
        )

    @cached_property
    def chats(self) -> Chat:
        """The model as a partner in conversations.

        Raises:
            UsageError: the model has no chat template.
            CheckpointError: its chat template is broken.
        """
        from moevolve.models.chat import Chat

        return Chat(self, self.origin)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        **variables: Any,
    ) -> ChatCompletion:
        """The model's turn in a conversation, read into content, reasoning and tool calls.

        Args:
            messages: each `{"role": ..., "content": ...}`; a turn of the model goes back in as its `.message()`.
            tools: what the model may call, as JSON schemas in OpenAI's form.
            max_tokens: most new tokens; None takes 1024, or what the model's context has room for.
            temperature, top_p, seed: as of `generate`.
            variables: the template's own, such as `enable_thinking`.

        Raises:
            UsageError: the model has no chat template, or it refuses the conversation.
            CheckpointError: its chat template is broken.
        """
        from moevolve.models.chat import conversation

        ((answer,),) = self.chats.complete(
            [conversation(messages, tools)],
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            **variables,
        )
        return answer

    def encode(self, prompt: str | Sequence[int], *, whole: bool = True) -> list[int]:
        """Token ids; ids pass through.

        Args:
            prompt: a text; special tokens that it spells count as such.
            whole: put the tokenizer's own special tokens around it, such as a beginning of text.

        Raises:
            UsageError: the checkpoint has no tokenizer.
        """
        if not isinstance(prompt, str):
            return list(prompt)
        if not self.native.has_tokenizer:
            raise UsageError("this checkpoint has no tokenizer.json: pass token ids instead of text")
        return self.native.encode(prompt, whole)

    def text(self, ids: Sequence[int], marks: Sequence[str] | None = ()) -> str:
        """Text of token ids without special tokens but those that `marks` names, or with all of them for None.

        Empty without a tokenizer.
        """
        if not self.native.has_tokenizer:
            return ""
        return self.native.decode([token for token in ids if self.shows(token, marks)], False)

    def shows(self, token: int, marks: Sequence[str] | None = ()) -> bool:
        """Whether a token has a place in the text: every one but special tokens that `marks` does not name."""
        if marks is None:
            return True
        if token not in self._hidden:
            special = not self.native.decode([token])
            self._hidden[token] = self.native.decode([token], False) if special else ""
        text = self._hidden[token]
        return not text or text in marks

    def _completion(self, sample: tuple[list[int], list[float], str]) -> Completion:
        tokens, logprobs, finish = sample
        return Completion(text=self.text(tokens), tokens=tokens, logprobs=logprobs, finish=finish)


def heat_of(temperature: float | None, n: int) -> float:
    """The temperature in force: nobody's choice is greedy for one sample and 1.0 for more."""
    return (0.0 if n == 1 else 1.0) if temperature is None else temperature


def _check(n: int, max_tokens: int, temperature: float, top_p: float) -> None:
    if n < 1 or max_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise UsageError("generate needs n >= 1, max_tokens >= 1, temperature >= 0 and 0 < top_p <= 1")
