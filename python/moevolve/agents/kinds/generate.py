"""Requests to the policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from moevolve.agents.attempt import Attempt
from moevolve.agents.gateway import Given, Refused, Result, within
from moevolve.protocol.completion import Completion
from moevolve.protocol.messages import Message, Role, Tool, ToolCall
from moevolve.protocol.requests import POLICY, Answer, GenerateRequest, Unanswered
from moevolve.protocol.sampling import Sampling


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what a program sends."""


class WireFunction(_Strict, frozen=True):
    """Which tool is called, with its arguments as an object or as the JSON text of one."""

    name: str
    arguments: dict[str, Any] | str = {}


class WireToolCall(_Strict, frozen=True):
    """A call in a message, in OpenAI's form."""

    function: WireFunction
    id: str = ""
    type: Literal["function"] = "function"


class WireMessage(_Strict, frozen=True):
    """A message, in OpenAI's form."""

    role: Role
    content: str | None = ""
    tool_calls: list[WireToolCall] = []
    tool_call_id: str = ""
    name: str = ""
    reasoning: str = ""


class WireSignature(_Strict, frozen=True):
    """A tool's name, purpose and arguments."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str = ""
    parameters: dict[str, Any] = {}


class WireTool(_Strict, frozen=True):
    """A tool that the model may call, in OpenAI's form."""

    function: WireSignature
    type: Literal["function"] = "function"


Stop = Annotated[str, Meta(min_length=1, max_length=256)]
Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]


class WireGenerate(_Strict, frozen=True):
    """A prompt or a conversation, and how to answer it."""

    prompt: str | Annotated[list[WireMessage], Meta(min_length=1)]
    n: Annotated[int, Meta(ge=1)] = 1
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    """None takes what the role allows."""
    temperature: Annotated[float, Meta(ge=0.0, le=8.0)] = 1.0
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=10**6)] = 0
    min_p: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    repetition_penalty: Annotated[float, Meta(gt=0.0, le=10.0)] = 1.0
    stop: Stop | Annotated[list[Stop], Meta(max_length=16)] = []
    tools: Annotated[list[WireTool], Meta(max_length=128)] = []
    schema: dict[str, Any] | None = None
    worded: bool | None = None
    """None takes the role's."""


class Generate:
    """Completions of the policy.

    Args:
        answer: the policy; None where none is granted.
        lenient: give empty completions where the policy leaves a request unanswered, and raise what it refuses in the
            program: one of an improver's many questions is not worth its proposals.
    """

    wire = WireGenerate

    def __init__(self, answer: Answer | None, *, lenient: bool) -> None:
        self._answer = answer
        self._lenient = lenient

    def request(self, asked: WireGenerate, attempt: Attempt, index: int, key: int) -> GenerateRequest:
        limits = attempt.limits
        within(attempt, "completions", asked.n, "n")
        most = limits.longest if asked.max_tokens is None else asked.max_tokens
        within(attempt, "max_tokens", most, "max_tokens", limits.longest)
        if most < limits.least_tokens:
            raise Refused(
                "budget",
                f"max_tokens is {most}, and roles.{attempt.role}.least_tokens asks for {limits.least_tokens}",
            )
        drawn = attempt.tokens + attempt.reserved + asked.n * most
        within(
            attempt,
            "tokens",
            drawn,
            "tokens of the attempt, if these completions are as long as they may be,",
        )
        attempt.reserved += asked.n * most
        prompt = asked.prompt if isinstance(asked.prompt, str) else tuple(map(_message, asked.prompt))
        size = len(prompt) if isinstance(prompt, str) else len(msgspec.json.encode(prompt).decode())
        if asked.tools or asked.schema:
            size += len(msgspec.json.encode((asked.tools, asked.schema)))
        within(attempt, "prompt_chars", size, "the length of a prompt")
        return GenerateRequest(
            attempt=index,
            prompt=prompt,
            sampling=Sampling(
                max_tokens=most,
                temperature=asked.temperature,
                top_p=asked.top_p,
                top_k=asked.top_k,
                min_p=asked.min_p,
                frequency_penalty=asked.frequency_penalty,
                presence_penalty=asked.presence_penalty,
                repetition_penalty=asked.repetition_penalty,
                stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop),
            ),
            n=asked.n,
            key=key,
            worded=limits.worded if asked.worded is None else asked.worded,
            tools=tuple(
                Tool(tool.function.name, tool.function.description, tool.function.parameters)
                for tool in asked.tools
            ),
            schema=asked.schema,
        )

    def answer(self, requests: list[GenerateRequest]) -> Sequence[Result]:
        assert self._answer is not None, "requests are granted where there is a policy"
        return [
            self._given(request, reply)
            for request, reply in zip(requests, self._answer(requests), strict=True)
        ]

    def _given(self, request: GenerateRequest, reply: list[Completion] | Unanswered) -> Result:
        if isinstance(reply, Unanswered):
            if not self._lenient:
                return reply
            if reply.failure != POLICY:
                return Refused("rejected", reply.detail)
            reply = [Completion("", [], [], "stop")] * request.n
        # A stop text would cut the policy's words into pieces of the program's choice.
        whole = not request.sampling.stop
        value = [_encoded(completion) for completion in reply]
        return Given(
            value, reply, sum([row[3] for row in value]), whole, prompt_tokens=reply[0].prompt_tokens
        )


def _message(said: WireMessage) -> Message:
    """A message in the protocol's form.

    Raises:
        Refused: a call's arguments are no JSON object.
    """
    return Message(
        role=said.role,
        content=said.content or "",
        tool_calls=tuple(_call(index, call) for index, call in enumerate(said.tool_calls)),
        tool_call_id=said.tool_call_id,
        name=said.name,
        reasoning=said.reasoning,
    )


def _call(index: int, call: WireToolCall) -> ToolCall:
    arguments = call.function.arguments
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise Refused(
                "rejected", f"a call of {call.function.name!r} has no JSON object: {error}"
            ) from None
    return ToolCall(index=index, name=call.function.name, arguments=arguments, given_id=call.id)


def _encoded(completion: Completion) -> tuple[Any, ...]:
    """(text, finish, logprob, tokens), then the calls (id, name, arguments) and the reasoning where there are any."""
    plain = completion.text, completion.finish, completion.logprob, completion.count
    if not completion.tool_calls and not completion.reasoning:
        return plain
    return (
        *plain,
        [(call.id, call.name, call.arguments) for call in completion.tool_calls],
        completion.reasoning,
    )
