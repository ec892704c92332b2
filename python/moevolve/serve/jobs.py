"""Checked requests as work for the scheduler: prompts in tokens, and the choices that read what is drawn."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from moevolve.models.chat import conversation
from moevolve.models.constraints import turn
from moevolve.models.engine import Engine
from moevolve.models.interruptible import Parts
from moevolve.protocol.sampling import TokenRequest
from moevolve.serve.choices import ChatChoice, Choice, TextChoice
from moevolve.serve.failures import RequestError, about, not_finite, wrong
from moevolve.serve.forms import field_of
from moevolve.serve.logprobs import of_prompt
from moevolve.serve.samples import SampleReader
from moevolve.serve.schemas import ChatRequest, CompletionRequest
from moevolve.serve.service import Deployment, Service

COMPLETION_TOKENS = 16
"""New tokens of a completion where the client names no number, as OpenAI has it."""
CHAT_TOKENS = 4096
"""New tokens of a turn where the client names no number, as far as the context goes: a sample is let in once there is memory
for all that it may need."""


class Job(msgspec.Struct, frozen=True):
    """A request that is ready to be drawn; choices stand prompt by prompt, sample by sample."""

    draws: list[TokenRequest]
    choices: list[Choice]
    kind: str
    """`object` of a whole answer."""
    piece: str
    """`object` of a stream's piece."""
    name: str
    """The answer's id."""
    prompt_tokens: int
    scores: Sequence[Parts[None]] = ()
    """Work of the engine that comes before anything is drawn, a prompt each: its log-probabilities, for its choices."""
    kept: int | None = None
    """Samples of each prompt that are told, the likeliest of those that are drawn; None tells all."""

    @property
    def over(self) -> bool:
        """Whether every choice has ended."""
        return all(choice.reader.finish is not None for choice in self.choices)

    @property
    def ranked(self) -> list[list[Choice]]:
        """The choices that the answer consists of, prompt by prompt, in the answer's order: as they were drawn, or the
        likeliest first where more are drawn than told."""
        if not self.draws:
            return [self.choices]
        drawn = len(self.choices) // len(self.draws)
        prompts = [self.choices[start : start + drawn] for start in range(0, len(self.choices), drawn)]
        if self.kept is None:
            return prompts
        return [sorted(choices, key=lambda choice: -choice.reader.mean)[: self.kept] for choices in prompts]

    @property
    def told(self) -> list[dict[str, Any]]:
        """The choices, whole, that the answer consists of.

        Raises:
            RequestError: a constraint became too complex to say what may come next, or the model's logits are no numbers.
        """
        self.check()
        told = [choice.whole() for choices in self.ranked for choice in choices]
        return [{**choice, "index": index} for index, choice in enumerate(told)]

    def check(self) -> None:
        """Refuses an answer that its constraint could not be followed through, or that the model has no numbers for.

        Raises:
            RequestError: as `told`.
        """
        ends = {choice.reader.finish for choice in self.choices}
        if "not_finite" in ends:
            raise not_finite("logits")
        if "unconstrained" in ends:
            raise RequestError(
                422,
                "the form of the answer became too complex to follow: ask for a simpler one",
                code="constraint",
            )

    @property
    def usage(self) -> dict[str, int]:
        drawn = sum(choice.reader.drawn for choice in self.choices)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": drawn,
            "total_tokens": self.prompt_tokens + drawn,
        }


def completion_job(body: CompletionRequest, service: Service, deployment: Deployment, seed: int) -> Job:
    """Reads the prompts of a completion."""
    engine = deployment.engine
    draws: list[TokenRequest] = []
    choices: list[Choice] = []
    scores: list[Parts[None]] = []
    used = 0
    for index, prompt in enumerate(body.prompts):
        with about("prompt"):
            ids = engine.encode(prompt, whole=body.add_special_tokens is not False)
        if not ids or any(not 0 <= token < engine.vocab_size for token in ids):
            raise wrong("prompt", f"at least one token, each below {engine.vocab_size}")
        used += len(ids)
        echo = (prompt if isinstance(prompt, str) else engine.text(prompt)) if body.echo else ""
        nothing = body.limit == 0
        if not nothing:
            sampling = body.sampling(
                _room(deployment, len(ids), body.limit, COMPLETION_TOKENS, "prompt"),
                engine.vocab_size,
                top_logprobs=body.logprobs or 0,
                speculate=service.speculate,
            )
            with about(field_of(body)):
                draws.append(engine.ready(TokenRequest(ids, sampling, body.keys(index, seed), follows=True)))
        texts: list[TextChoice] = []
        for sample in range(body.drawn):
            reader = SampleReader(engine, before=ids, tells=body.logprobs is not None)
            reader.finish = "length" if nothing else None
            texts.append(TextChoice(index * body.drawn + sample, engine, reader, body.logprobs, echo))
        choices += texts
        if body.scored:
            scores.append(_score(engine, ids, body.logprobs or 0, texts))
    return Job(
        draws=draws,
        choices=choices,
        kind="text_completion",
        piece="text_completion",
        name=f"cmpl-{secrets.token_hex(12)}",
        prompt_tokens=used,
        scores=scores,
        kept=body.samples if body.drawn > body.samples and draws else None,
    )


def _score(engine: Engine, ids: list[int], most: int, choices: Sequence[TextChoice]) -> Parts[None]:
    """Reads a prompt's log-probabilities, for all its choices."""
    with about("prompt"):
        scores = yield from engine.score_parts(ids, top=most)
    if any(math.isnan(logprob) for logprob, _ in scores):
        raise not_finite("logits")
    scored = of_prompt(engine, ids, [(None, []), *scores], most)
    for choice in choices:
        choice.scored = scored


def chat_job(body: ChatRequest, service: Service, deployment: Deployment, seed: int) -> Job:
    """Renders a conversation."""
    engine = deployment.engine
    talk = conversation(body.conversation, body.listed)
    with about("messages"):
        prompt = engine.chats.prompt(
            talk,
            answer=body.add_generation_prompt is not False,
            go_on=bool(body.continue_final_message),
            **body.variables,
        )
        ids = engine.encode(prompt, whole=False)
    if not ids:
        raise wrong("messages", "the chat template makes no text of this conversation")
    form = engine.chats.format_of(talk, body.forced)
    alternatives = (body.top_logprobs or 0) if body.logprobs else None
    sampling = body.sampling(
        _room(deployment, len(ids), body.limit, CHAT_TOKENS, "messages"),
        engine.vocab_size,
        top_logprobs=alternatives or 0,
        speculate=service.speculate,
    )
    if body.forced or sampling.constraint is not None:
        with about("tool_choice" if body.forced else field_of(body)):
            fits = turn(sampling.constraint, form, prompt, tools=talk.tools, several=body.parallel)
            sampling = msgspec.structs.replace(sampling, constraint=fits)
    number = secrets.token_hex(12)
    choices: list[Choice] = [
        ChatChoice(
            sample,
            engine,
            SampleReader(engine, form.marks, tells=alternatives is not None),
            form.parser(prompt, talk.tools),
            alternatives,
            number,
            body.parallel,
            short_ids=form.calls == "mistral",
        )
        for sample in range(body.samples)
    ]
    with about(field_of(body)):
        draws = [engine.ready(TokenRequest(ids, sampling, body.keys(0, seed), form.marks))]
    return Job(
        draws=draws,
        choices=choices,
        kind="chat.completion",
        piece="chat.completion.chunk",
        name=f"chatcmpl-{number}",
        prompt_tokens=len(ids),
    )


def _room(deployment: Deployment, used: int, wanted: int | None, usual: int, field: str) -> int:
    """New tokens that a sample may have: what is asked for, as far as the context goes."""
    positions = deployment.engine.positions
    most = usual if wanted is None else wanted
    if positions is None:
        return most
    if used >= positions:
        raise RequestError(
            400,
            f"the prompt has {used} tokens; this model's maximum context length, the answer included, is {positions}",
            param=field,
            code="context_length_exceeded",
        )
    return min(most, positions - used)
