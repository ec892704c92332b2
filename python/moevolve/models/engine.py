"""The engine as people use it: prompts in, completions out, conversations, and training, over one decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self, Unpack

import msgspec

from moevolve import _native
from moevolve.errors import UsageError
from moevolve.models.champions import champion_of
from moevolve.models.chat import Chat, ChatCompletion, conversation
from moevolve.models.device import settled_device
from moevolve.models.sampling import Settings, resolve
from moevolve.models.scheduler import SampleStream, Scheduler
from moevolve.models.stream import TextStream
from moevolve.models.text_reader import following, reader_of
from moevolve.models.trainable import TARGETS, TrainableDecoder
from moevolve.protocol.completion import Completion, Samples
from moevolve.protocol.sampling import Sampling, TokenRequest
from moevolve.randomness import key

__all__ = ["TARGETS", "Completion", "Engine", "Samples"]

SLOTS = 64
"""Samples that a thread draws together where stop texts are looked for."""


class Engine(TrainableDecoder):
    """A model on this machine: it completes prompts, converses, and learns.

    It draws through the scheduler that `serve` draws through: the same prompt, settings and seed give the same tokens here
    and there.
    """

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
        """Loads a model: a GGUF file, a Hugging Face folder, or the champion of a run's folder.

        Args:
            path: the file or folder.
            device, threads, precision, weights, adapter: as of `Decoder.load`; of a run, whose configuration says how its
                model is computed, `device` and `threads` alone.

        Raises:
            CheckpointError: a file is missing, torn, alien, or does not match the others; the message names it.
            UsageError: a device that cannot be used here, an unknown precision, another word for the weights, or a run that
                holds no weights.
            StoreError: a run whose weights are gone.
        """
        if not _native.RunStore.is_run(path):
            return super().load(
                path, device=device, threads=threads, precision=precision, weights=weights, adapter=adapter
            )
        if (precision, weights, adapter) != (None, None, None):
            raise UsageError(f"{path} is a run: leave precision, weights and adapter to its configuration")
        settled_device(device)
        champion = champion_of(Path(path), cls, threads, device)
        champion.origin = fspath(path)
        return champion

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        n: int = 1,
        seed: int = 0,
        offset: int = 0,
        sampling: Sampling | None = None,
        **settings: Unpack[Settings],
    ) -> list[Samples]:
        """Completes every prompt `n` times.

        A sample depends on the weights, its prompt, its index in the call, `seed` and its settings alone, never on what else
        is in the batch.

        Args:
            prompts: texts, or token ids for a checkpoint without a tokenizer.
            n: samples a prompt.
            seed: draws other samples.
            offset: index of the first prompt, where a longer list comes in several calls.
            sampling: all settings at once; or fields of `Sampling` by name:
            settings: `max_tokens` (64), `temperature` (0 is greedy; left out it is greedy for `n=1` and 1.0 for more
                samples), `top_p` in (0, 1], `top_k` and `min_p` (0 keeps every token), `frequency_penalty`,
                `presence_penalty`, `repetition_penalty`, `stop` (texts), `stop_tokens`, `logit_bias` (token id to what is
                added), `top_logprobs` (at most 20), `speculate` (draft tokens a step), `ignore_eos`, `min_tokens`,
                `allowed_tokens`; and one of `schema` (a JSON schema), `regex`, `choice` (texts) and `grammar` (Lark), which
                hold the text to a form.

        Returns:
            One `Samples` a prompt: `out[i][j].text`, or `out[i].text` for the first. Of each, `tokens` are the ids drawn
            without the end token, up to the one that completes a stop text; `logprobs` natural logs at temperature 1,
            one a token and one more for an end token; `text` goes on from the prompt's, a blank at its beginning included,
            and ends where a stop text begins.

        Raises:
            UsageError: a setting that is unknown or out of range, or a text prompt without a tokenizer.
        """
        settled = resolve(sampling, n, **settings)
        requests = [
            TokenRequest(
                self.encode(prompt),
                settled,
                [key(seed, "generate", index, sample) for sample in range(n)],
                follows=True,
            )
            for index, prompt in enumerate(prompts, offset)
        ]
        return self.complete(requests)

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        index: int = 0,
        sample: int = 0,
        seed: int = 0,
        marks: Sequence[str] | None = (),
        sampling: Sampling | None = None,
        **settings: Unpack[Settings],
    ) -> TextStream:
        """One completion as it is drawn: an iterator of pieces, with the tokens that `generate` draws.

        Args:
            prompt: a text, or token ids.
            index: of the prompt in the call to `generate` that draws the same.
            sample: index of the sample in its prompt.
            seed, sampling, settings: as of `generate` for `n=1`.
            marks: special tokens that show in the text all the same; None shows every one.

        Raises:
            UsageError: as `generate`.
        """
        settled = resolve(sampling, 1, **settings)
        keys = [key(seed, "generate", index, sample)]
        return self.begin(TokenRequest(self.encode(prompt), settled, keys, marks, follows=True))

    def complete(self, requests: Sequence[TokenRequest]) -> list[Samples]:
        """Answers requests in tokens, all in one batch: one completion a key, in order.

        Raises:
            UsageError: an empty prompt, an unknown token, an impossible setting, or stop texts without a tokenizer.
        """
        requests = [self.ready(request) for request in requests]
        drawn = iter(self.native.generate([each for each in requests if not each.sampling.stop]))
        watched = [each for each in requests if each.sampling.stop]
        read = iter(Scheduler(self, slots=SLOTS * self.threads).complete(watched) if watched else [])
        return [
            Samples(
                next(read)
                if request.sampling.stop
                else [self._completion(each, request) for each in next(drawn)]
            )
            for request in requests
        ]

    def _completion(self, sample: _native.Sample, request: TokenRequest) -> Completion:
        tokens, top = sample.tokens, sample.top  # Each reading makes a list of its own.
        marks = request.marks
        plain = marks is not None and not marks
        text = sample.text if plain else self.text(tokens, marks)
        if request.follows:
            text = following(self, request.prompt, tokens, text, marks)
        completion = Completion(text, tokens, sample.logprobs, sample.finish)
        if not top:
            return completion
        return msgspec.structs.replace(completion, top_logprobs=tuple(map(tuple, top[: len(tokens)])))

    def begin(self, request: TokenRequest) -> TextStream:
        """The sample of a request of one key as it is drawn.

        Raises:
            UsageError: as `complete`.
        """
        return TextStream(
            SampleStream(self, request),
            reader_of(self, request),
        )

    @cached_property
    def chats(self) -> Chat:
        """The model as a partner in conversations.

        Raises:
            UsageError: the model has no chat template.
            CheckpointError: its chat template is broken.
        """
        return Chat(self, self.origin)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        seed: int = 0,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        **variables: Any,
    ) -> ChatCompletion:
        """The model's turn in a conversation, read into content, reasoning and tool calls.

        Args:
            messages: each `{"role": ..., "content": ...}`; a turn of the model goes back in as its `.message()`.
            tools: what the model may call, as JSON schemas in OpenAI's form.
            seed: as of `generate`.
            sampling: all settings at once, in place of the three that follow.
            max_tokens: most new tokens; None takes 1024, or what the model's context has room for.
            temperature, top_p: as of `generate`.
            variables: the template's own, such as `enable_thinking`; `documents`, where it has a place for them, each
                `{"title": ..., "text": ...}`.

        Raises:
            UsageError: the model has no chat template, it refuses the conversation, or has no place for the documents.
            CheckpointError: its chat template is broken.
        """
        ((answer,),) = self.chats.complete(
            [conversation(messages, tools)],
            seed=seed,
            sampling=sampling,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            **variables,
        )
        return answer
