"""A decoder on this machine: loaded and saved weights, texts to tokens and back, next-token scores."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property, lru_cache
from os import PathLike, fspath
from typing import Any, Self

import msgspec

from moevolve import _native
from moevolve.errors import UsageError
from moevolve.models.device import place, settled_device
from moevolve.models.interruptible import Parts, whole
from moevolve.models.reply import MARKS, ReplyFormat
from moevolve.protocol.sampling import Constraint, TokenRequest

KEPT = 32
"""Compiled constraints that are kept for the next request."""
SHORT = 4
"""Most tokens of a text that is remembered: whoever reads a text while it is drawn asks for the same few again and again."""
REMEMBERED = 16_384
"""Texts that are remembered, about 4 MiB."""


class Decoder:
    """A decoder of one of the families that README.md lists.

    Calls on one decoder exclude each other; texts become tokens, and tokens texts, beside them.

    Args:
        native: the loaded decoder; use `load` or `create`.
        origin: what to call the model in errors.
    """

    def __init__(self, native: _native.Engine, origin: str = "this model") -> None:
        self.native = native
        self.origin = origin
        self._hidden: dict[int, str] = {}
        self._short = lru_cache(REMEMBERED)(lambda ids: native.decode(list(ids), False))
        self._compiled: OrderedDict[Constraint, Any] = OrderedDict()
        self._compiling = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        device: str = "cpu",
        threads: int = 0,
        precision: str | None = None,
        weights: str | None = None,
        adapter: str | PathLike[str] | None = None,
    ) -> Self:
        """Loads a GGUF file, or a Hugging Face folder (config.json, safetensors, tokenizer.json where there is one).

        Args:
            path: the file or folder.
            device: what computes: `cpu`, `cuda:N` for the card with number N, or `auto`, which takes the first card where
                one can be used and runs the network, else the processor.
            threads: CPU threads; 0 takes all cores. Results do not depend on it.
            precision: what the operands of products are rounded to, `f32` (None) or `bf16`; `fastest` takes bf16 where the
                processor multiplies it at twice the rate, and on cards. Sums and weights are f32 in either. Stored weights
                are multiplied in their own format on the processor, where only the way back through them, in training,
                is rounded; on a card they become f32 or bf16, as this says.
            weights: `trainable` decodes them into f32, 8 to 12 bytes a parameter; `stored` keeps them mapped as the
                file has them, for reading, or for training an adapter; `auto` (None) stores what has more than 1e8
                parameters or is quantised.
            adapter: folder of a LoRA adapter in PEFT's layout to put beside the weights.

        Raises:
            CheckpointError: a file is missing, torn, alien, or does not match the others; the message names it.
            UsageError: a device that cannot be used here (the message says what is missing) or does not run the network, an
                unknown precision, or another word for the weights.
            CapacityError: the card has not enough memory.
        """
        settled_device(device)
        native = _native.Engine.load(fspath(path), threads, weights or "auto")
        place(native, device, precision)
        if adapter is not None:
            native.load_adapter(fspath(adapter))
        return cls(native, fspath(path))

    @classmethod
    def create(cls, config: str, tokenizer: str | None = None, *, seed: int = 0, threads: int = 0) -> Self:
        """Random weights for a configuration: normal matrices, norms of one, selection biases of zero.

        Args:
            config: text of a config.json.
            tokenizer: text of a tokenizer.json.
            seed: draws the weights.
            threads: as of `load`.

        Raises:
            CheckpointError: the configuration or the tokenizer cannot be used.
        """
        return cls(_native.Engine.create(config, tokenizer, seed, threads))

    def clone(self) -> Self:
        """A copy with weights, or an adapter, of its own and a fresh optimiser; stored weights are shared."""
        return type(self)(self.native.clone(), self.origin)

    def save(
        self, path: str | PathLike[str], *, dtype: str | None = None, max_shard_size: int | None = None
    ) -> None:
        """Writes a folder that transformers loads, or, where the name ends in `.gguf`, a file that llama.cpp runs.

        An adapter is merged into what is written; `save_adapter` writes it alone.

        Args:
            path: the folder, made if it does not exist, or the file.
            dtype: `f32`, `bf16` or `f16`, None for what was loaded; of a GGUF file these, `q8_0`, `q4_0` or `q4_k`,
                None for `f16`.
            max_shard_size: bytes of tensors in each part of a GGUF file; where they need several, `NAME.gguf` becomes
                `NAME-00001-of-0000N.gguf` and the others, each of which stands for the model.

        Raises:
            CheckpointError: it cannot be written, or GGUF has no place for a part of the model; the message names it.
        """
        if max_shard_size is not None and max_shard_size < 1:
            raise UsageError(f"max_shard_size: {max_shard_size} bytes hold no tensor")
        self.native.save(fspath(path), dtype, max_shard_size)

    @property
    def weights_hash(self) -> str:
        """BLAKE3 in hex over the name, shape and f32 values of every tensor that trains: all of them, or the adapter's."""
        return self.native.fingerprint()

    def write_weights(self, file: str | PathLike[str]) -> str:
        """Writes what trains as f32 into one safetensors file, atomically; returns the BLAKE3 hash of its bytes."""
        return self.native.write_weights(fspath(file))

    def read_weights(self, file: str | PathLike[str]) -> None:
        """Takes the weights of a file, the adapter's where there is one; on an error the old ones stay.

        Raises:
            CheckpointError: names the tensor that is missing, left over, of another shape, or not finite.
        """
        self.native.read_weights(fspath(file))

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return self.native.parameters

    @property
    def threads(self) -> int:
        """CPU threads in use."""
        return self.native.threads

    @property
    def isa(self) -> str:
        """The kernels in force: `avx512bf16`, `avx512`, `avx2` or `scalar`."""
        return self.native.isa

    @property
    def device(self) -> str:
        """What computes: `cpu`, or `cuda:N`."""
        return self.native.device

    def to(self, device: str) -> None:
        """Moves weights, adapter and optimiser to a device, as of `load`; what is being drawn there must have ended.

        Raises:
            UsageError: it cannot be used here, or does not run the network; the decoder stays where it was.
            CapacityError: the card has not enough memory; likewise.
        """
        place(self.native, device)

    @property
    def precision(self) -> str:
        """What the operands of products are rounded to, `f32` or `bf16`; set it to change it.

        Raises:
            UsageError: another name.
        """
        return self.native.precision

    @precision.setter
    def precision(self, name: str) -> None:
        self.native.precision = name

    @property
    def config(self) -> str:
        """The text of config.json as it would be saved."""
        return self.native.config()

    @cached_property
    def positions(self) -> int | None:
        """Most tokens of a sequence, where the model's configuration says so."""
        positions = json.loads(self.native.config()).get("max_position_embeddings")
        return positions if isinstance(positions, int) else None

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self.native.vocab_size

    @property
    def eos(self) -> list[int]:
        """Tokens that end a text."""
        return self.native.eos

    @cached_property
    def ending(self) -> list[int]:
        """The token that ends an answer: of several that end a text the one that the tokenizer calls so, since a model's
        turns end with that one; none where nothing ends a text."""
        name = self.special.get("eos_token")
        named = self.encode(name, whole=False) if name and self.has_tokenizer else []
        return named if len(named) == 1 and named[0] in self.eos else self.eos[:1]

    @property
    def has_tokenizer(self) -> bool:
        """Whether texts can be encoded and decoded."""
        return self.native.has_tokenizer

    @property
    def chat_templates(self) -> dict[str, str]:
        """All chat templates (jinja) by name; one without a name is the `default`."""
        return self.native.chat_templates

    @property
    def chat_template(self) -> str | None:
        """The chat template, the one named `default` of several."""
        return self.native.chat_template

    @property
    def special(self) -> dict[str, str]:
        """Texts of special tokens by their role, such as `eos_token`."""
        return self.native.special

    @property
    def notes(self) -> Sequence[str]:
        """What could not be taken over exactly from the model's file."""
        return self.native.notes

    def logits(self, ids: Sequence[Sequence[int]]) -> _native.Tensor:
        """Next-token scores, float32 of shape (batch, time, vocabulary).

        The result supports the buffer protocol, so `numpy.asarray` reads it without a copy. Rows of unequal length
        are right-padded; padded positions hold NaN.
        """
        return self.native.logits([list(row) for row in ids])

    def score(self, ids: Sequence[int], *, top: int = 0) -> list[tuple[float, list[tuple[int, float]]]]:
        """Log-probability of each token of a text but the first, given those before it, and the `top` likeliest ones.

        Raises:
            UsageError: no token, one outside the vocabulary, or more than the model has positions for.
        """
        return whole(self.score_parts(ids, top=top))

    def score_parts(
        self, ids: Sequence[int], *, top: int = 0
    ) -> Parts[list[tuple[float, list[tuple[int, float]]]]]:
        """As `score`, in parts."""
        tokens, read = list(ids), 0
        scores: list[tuple[float, list[tuple[int, float]]]] = []
        while True:
            part, read = self.native.score_part(tokens, top, read)
            scores += part
            if read == len(tokens):
                return scores
            yield

    def embed(self, ids: Sequence[int]) -> list[float]:
        """The mean over a text's tokens of the last hidden state, after the final norm.

        Raises:
            UsageError: as `score`.
        """
        return whole(self.embed_parts(ids))

    def embed_parts(self, ids: Sequence[int]) -> Parts[list[float]]:
        """As `embed`, in parts."""
        tokens, read = list(ids), 0
        sums: list[float] = []
        while True:
            read, sums, mean = self.native.embed_part(tokens, read, sums)
            if mean is not None:
                return mean
            yield

    def token_bytes(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes that each token stands for; of a special one, those of its name.

        Raises:
            UsageError: the checkpoint has no tokenizer.
        """
        return [bytes(one) for one in self.native.token_bytes(list(ids))]

    @cached_property
    def _written(self) -> list[str]:
        """Special tokens that are text to a constraint: the marks of the model's turns, the same for every one."""
        form = ReplyFormat.of("".join(self.chat_templates.values()))
        return list(dict.fromkeys((*MARKS, *form.written)))

    def ready(self, request: TokenRequest) -> TokenRequest:
        """The request with its constraint compiled.

        Raises:
            UsageError: the constraint cannot be compiled, or the checkpoint has no tokenizer.
        """
        constraint = request.sampling.constraint
        if constraint is None or request.compiled is not None:
            return request
        with self._compiling:
            compiled = self._compiled.pop(constraint, None)
            if compiled is None:
                compiled = self.native.constraint(constraint.form, constraint.source, self._written)
            self._compiled[constraint] = compiled
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        return msgspec.structs.replace(request, compiled=compiled)

    def encode(self, prompt: str | Sequence[int], *, whole: bool = True) -> list[int]:
        """Token ids; ids pass through.

        Args:
            prompt: a text; special tokens that it spells count as such.
            whole: put the tokenizer's own special tokens around it, such as a beginning of text.

        Raises:
            UsageError: the checkpoint has no tokenizer, or the text holds half of a character.
        """
        if not isinstance(prompt, str):
            return list(prompt)
        if not self.native.has_tokenizer:
            raise UsageError("this checkpoint has no tokenizer.json: pass token ids instead of text")
        try:
            return self.native.encode(prompt, whole)
        except UnicodeEncodeError as error:
            raise UsageError(f"the text is not Unicode: character {error.start + 1} is none") from error

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Text of token ids; `special` tokens are left out unless asked for.

        Raises:
            UsageError: the checkpoint has no tokenizer.
        """
        if special and len(ids) <= SHORT:
            return self._short(tuple(ids))
        return self.native.decode(list(ids), not special)

    def text(self, ids: Sequence[int], marks: Sequence[str] | None = ()) -> str:
        """Text of token ids without special tokens but those that `marks` names, or with all of them for None.

        Empty without a tokenizer.
        """
        if not self.native.has_tokenizer:
            return ""
        if marks is not None and not marks:
            # At once: a batch decodes thousands of tokens.
            return self.native.decode(ids if isinstance(ids, list) else list(ids), True)
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
