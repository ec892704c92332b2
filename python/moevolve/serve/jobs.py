"""Checked requests as work for the scheduler: prompts in tokens, and the choices that read what is drawn."""

from __future__ import annotations

import secrets

import msgspec

from moevolve.models.chat import MAX_TOKENS, conversation
from moevolve.protocol.sampling import TokenRequest
from moevolve.serve.choices import ChatChoice, Choice, TextChoice
from moevolve.serve.failures import RequestError, wrong
from moevolve.serve.samples import SampleReader
from moevolve.serve.schemas import ChatRequest, CompletionRequest
from moevolve.serve.service import Deployment, Service

COMPLETION_TOKENS = 16
"""New tokens of a completion where the client names no number, as OpenAI has it."""


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

    @property
    def prompt_tokens(self) -> int:
        return sum(len(draw.prompt) for draw in self.draws)

    @property
    def over(self) -> bool:
        """Whether every choice has ended."""
        return all(choice.reader.finish is not None for choice in self.choices)

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
    for index, prompt in enumerate(body.prompts):
        ids = engine.encode(prompt)
        if not ids or any(not 0 <= token < engine.vocab_size for token in ids):
            raise wrong("prompt", f"at least one token, each below {engine.vocab_size}")
        most = _room(deployment, len(ids), body.limit, COMPLETION_TOKENS)
        sampling = body.sampling(
            most,
            engine.vocab_size,
            top_logprobs=body.logprobs or 0,
            speculate=service.speculate,
        )
        draws.append(TokenRequest(ids, sampling, body.keys(index, seed)))
        echo = (prompt if isinstance(prompt, str) else engine.text(prompt)) if body.echo else ""
        choices += [
            TextChoice(
                index * body.samples + sample,
                engine,
                SampleReader(engine),
                body.logprobs,
                echo,
            )
            for sample in range(body.samples)
        ]
    name = f"cmpl-{secrets.token_hex(12)}"
    return Job(draws=draws, choices=choices, kind="text_completion", piece="text_completion", name=name)


def chat_job(body: ChatRequest, service: Service, deployment: Deployment, seed: int) -> Job:
    """Renders a conversation."""
    engine = deployment.engine
    talk = conversation(body.conversation, body.offered)
    prompt = engine.chats.prompt(talk, **body.variables)
    ids = engine.encode(prompt, whole=False)
    if not ids:
        raise wrong("messages", "the chat template makes no text of this conversation")
    most = _room(deployment, len(ids), body.limit, MAX_TOKENS)
    alternatives = (body.top_logprobs or 0) if body.logprobs else None
    sampling = body.sampling(
        most, engine.vocab_size, top_logprobs=alternatives or 0, speculate=service.speculate
    )
    number = secrets.token_hex(12)
    form = engine.chats.format
    choices: list[Choice] = [
        ChatChoice(
            sample,
            engine,
            SampleReader(engine, form.marks),
            form.parser(prompt, talk.tools),
            alternatives,
            number,
        )
        for sample in range(body.samples)
    ]
    return Job(
        draws=[TokenRequest(ids, sampling, body.keys(0, seed), form.marks)],
        choices=choices,
        kind="chat.completion",
        piece="chat.completion.chunk",
        name=f"chatcmpl-{number}",
    )


def _room(deployment: Deployment, used: int, wanted: int | None, usual: int) -> int:
    """New tokens that a sample may have: what is asked for, as far as the context goes."""
    positions = deployment.engine.positions
    most = usual if wanted is None else wanted
    if positions is None:
        return most
    if used >= positions:
        raise RequestError(
            400,
            f"the prompt has {used} tokens; this model's context has {positions}, the answer included",
            code="context_length_exceeded",
        )
    return min(most, positions - used)
