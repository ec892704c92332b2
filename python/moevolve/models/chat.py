"""Conversations with a model, through the template that came with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from moevolve.errors import UsageError
from moevolve.journal.text import line
from moevolve.models.constraints import turn
from moevolve.models.continuation import Continuation
from moevolve.models.harmony import with_thinking
from moevolve.models.reply import ReplyFormat
from moevolve.models.sampling import resolve
from moevolve.models.stream import TextStream
from moevolve.models.template import MOST_SAID, ChatTemplate, refuse_own
from moevolve.models.toolprompt import in_texts, needed
from moevolve.models.turnparser import TurnParser
from moevolve.models.turns import Event, MalformedCall, Reply
from moevolve.protocol.completion import Completion, Samples
from moevolve.protocol.sampling import Constraint, Sampling, TokenRequest
from moevolve.randomness import key

MAX_TOKENS = 1024
"""New tokens of a turn where nobody says another number; fewer where the model's context ends before."""

TOOL_USE = "tool_use"
"""Name of the template for conversations with tools, where a model has one apart."""


class ChatCompletion(Completion, frozen=True, omit_defaults=False):
    """A sampled turn. `text` is as the model wrote it, marks included; the rest is what was read from it."""

    content: str = ""
    malformed: tuple[MalformedCall, ...] = ()

    def message(self) -> dict[str, Any]:
        """The turn as a message for the next call's conversation."""
        return Reply(
            content=self.content,
            reasoning=self.reasoning,
            tool_calls=self.tool_calls,
            malformed=self.malformed,
        ).message()


class Conversation(msgspec.Struct, frozen=True):
    """What a model is to answer."""

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    empty: bool = False
    """Whether an empty list of tools was given: some templates tell it from none."""


class Conversant(Protocol):
    """A model of this machine, as far as a conversation needs one."""

    @property
    def chat_template(self) -> str | None: ...
    @property
    def chat_templates(self) -> dict[str, str]: ...
    @property
    def special(self) -> dict[str, str]: ...
    @property
    def positions(self) -> int | None: ...
    def encode(self, prompt: str | Sequence[int], *, whole: bool = True) -> list[int]: ...
    def complete(self, requests: Sequence[TokenRequest]) -> list[Samples]: ...
    def begin(self, request: TokenRequest) -> TextStream: ...


class Chat:
    """A model's way to converse: its template, and the format of its turns.

    Args:
        model: what answers.
        origin: what to call the model in errors.

    Raises:
        UsageError: the model has no template.
        CheckpointError: its template is broken.
    """

    def __init__(self, model: Conversant, origin: str) -> None:
        sources, source = model.chat_templates, model.chat_template
        if source is None and sources:
            raise UsageError(
                f"{origin} has no chat template that is the default: transformers wants one beside "
                f"{line(', '.join(sorted(sources)), MOST_SAID)}"
            )
        if source is None:
            raise UsageError(
                f"{origin} has no chat template, so it is no chat model: leave `chat` out to complete text"
            )
        self._model = model
        self._origin = origin
        self.template = ChatTemplate(source, model.special, origin)
        self._with_tools = self.template
        if TOOL_USE in sources:
            self._with_tools = ChatTemplate(sources[TOOL_USE], model.special, origin)
        self.format = ReplyFormat.of(source + sources.get(TOOL_USE, ""))

    def prompt(
        self, conversation: Conversation, *, answer: bool = True, go_on: bool = False, **variables: Any
    ) -> str:
        """The text that the model goes on from.

        Args:
            conversation: messages and tools.
            answer: end where the model's turn begins.
            go_on: end inside the last message, behind its text.
            variables: the template's own, such as `enable_thinking`, and `documents`.

        Raises:
            UsageError: the template refuses the conversation, leaves out the text to go on from, or has no place for the
                documents.
        """
        variables["answer"] = answer and not go_on
        if not go_on:
            return self._rendered(conversation, variables)
        last = Continuation(conversation.messages)
        text = self._rendered(msgspec.structs.replace(conversation, messages=last.messages), variables)
        end = last.end(text)
        if end is None:
            raise UsageError(f"the chat template of {self._origin} leaves out the text to go on from")
        return text[:end]

    def _rendered(self, conversation: Conversation, variables: Mapping[str, Any]) -> str:
        template = self._with_tools if conversation.tools else self.template
        refuse_own(variables)
        if variables.get("documents") and "documents" not in template.source:
            raise UsageError(f"documents: the chat template of {self._origin} has no place for them")
        if needed(template.source, conversation.messages, conversation.tools):
            return template.render(in_texts(conversation.messages, conversation.tools), **variables)
        messages = with_thinking(conversation.messages) if self.format.harmony else conversation.messages
        tools = conversation.tools if conversation.tools or conversation.empty else None
        return template.render(messages, tools, **variables)

    def format_of(self, conversation: Conversation, forced: bool = False) -> ReplyFormat:
        """How turns of a conversation are written.

        Where the template has no place for tools, or the turn must call (`forced`) and nobody here reads the family's
        calls, they are those of Hermes.
        """
        template = self._with_tools if conversation.tools else self.template
        in_words = needed(template.source, conversation.messages, conversation.tools)
        if not self.format.harmony and (in_words or (forced and self.format.calls is None)):
            return msgspec.structs.replace(self.format, calls="hermes")
        return self.format

    def ids(
        self, conversation: Conversation, max_tokens: int | None = None, **variables: Any
    ) -> tuple[list[int], int]:
        """The prompt's tokens, and the most that may follow."""
        ids = self._model.encode(self.prompt(conversation, **variables), whole=False)
        return ids, self._room(ids, max_tokens)

    def stream(
        self,
        conversation: Conversation,
        *,
        index: int = 0,
        sample: int = 0,
        seed: int = 0,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        constraint: Constraint | None = None,
        **variables: Any,
    ) -> ChatStream:
        """One turn as it is drawn: sample `sample` of conversation `index` of the call to `complete` that draws the same."""
        prompt = self.prompt(conversation, **variables)
        keys = [key(seed, "generate", index, sample)]
        form = self.format_of(conversation)
        request = self._request(prompt, keys, form, sampling, max_tokens, temperature, top_p, constraint)
        return ChatStream(
            self._model.begin(request), self.format_of(conversation).parser(prompt, conversation.tools)
        )

    def complete(
        self,
        conversations: Sequence[Conversation],
        *,
        n: int = 1,
        seed: int = 0,
        offset: int = 0,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float = 1.0,
        constraint: Constraint | None = None,
        **variables: Any,
    ) -> list[tuple[ChatCompletion, ...]]:
        """Answers every conversation `n` times, all in one batch.

        Args:
            conversations: each with its own tools.
            n, seed, offset: as of `Engine.generate`.
            sampling: all settings at once, in place of the three that follow.
            max_tokens: most new tokens a turn; None takes 1024, or what the model's context has room for.
            temperature, top_p: as of `Engine.generate`.
            constraint: what each answer must be; reasoning before it is free.
            variables: the template's own, such as `enable_thinking`.

        Raises:
            UsageError: the template refuses a conversation, or an argument is out of range.
        """
        prompts = [self.prompt(conversation, **variables) for conversation in conversations]
        requests = []
        for index, (prompt, conversation) in enumerate(zip(prompts, conversations, strict=True), offset):
            keys = [key(seed, "generate", index, sample) for sample in range(n)]
            form = self.format_of(conversation)
            requests.append(
                self._request(prompt, keys, form, sampling, max_tokens, temperature, top_p, constraint)
            )
        return [
            tuple(self._read(sample, prompt, conversation) for sample in samples)
            for samples, prompt, conversation in zip(
                self._model.complete(requests), prompts, conversations, strict=True
            )
        ]

    def _request(
        self,
        prompt: str,
        keys: list[int],
        form: ReplyFormat,
        sampling: Sampling | None,
        max_tokens: int | None,
        temperature: float | None,
        top_p: float,
        constraint: Constraint | None,
    ) -> TokenRequest:
        ids = self._model.encode(prompt, whole=False)
        if sampling is None:
            room = self._room(ids, max_tokens)
            sampling = resolve(None, len(keys), max_tokens=room, temperature=temperature, top_p=top_p)
        else:
            sampling = resolve(sampling, len(keys))
        asked = constraint or sampling.constraint
        if asked is not None:
            sampling = msgspec.structs.replace(sampling, constraint=turn(asked, form, prompt))
        return TokenRequest(ids, sampling, keys, form.marks)

    def _read(self, sample: Completion, prompt: str, conversation: Conversation) -> ChatCompletion:
        reply, _ = self.format_of(conversation).read(sample.text, prompt, conversation.tools)
        return _completed(sample, reply)

    def _room(self, ids: Sequence[int], wanted: int | None) -> int:
        if wanted is not None:
            return wanted
        positions = self._model.positions
        if positions is None:
            return MAX_TOKENS
        if positions <= len(ids):
            raise UsageError(
                f"the conversation takes {len(ids)} tokens; {self._origin} has room for {positions}, its answer included"
            )
        return min(MAX_TOKENS, positions - len(ids))


class ChatStream:
    """A turn under way: an iterator of events, then the `completion`."""

    def __init__(self, stream: TextStream, parser: TurnParser) -> None:
        self._stream = stream
        self._parser = parser

    def __iter__(self) -> Iterator[Event]:
        for piece in self._stream:
            if piece.text:
                yield from self._parser.feed(piece.text)
        yield from self._parser.finish()

    @property
    def completion(self) -> ChatCompletion:
        """The turn as drawn so far."""
        return _completed(self._stream.completion, self._parser.reply())


def _completed(sample: Completion, reply: Reply) -> ChatCompletion:
    return ChatCompletion(
        text=sample.text,
        tokens=sample.tokens,
        logprobs=sample.logprobs,
        finish=sample.finish,
        top_logprobs=sample.top_logprobs,
        content=reply.content,
        reasoning=reply.reasoning,
        tool_calls=reply.tool_calls,
        malformed=reply.malformed,
    )


def conversation(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
) -> Conversation:
    """Messages and tools of any mapping type as a `Conversation`."""
    return Conversation(
        messages=tuple(dict(message) for message in messages),
        tools=tuple(dict(tool) for tool in tools or ()),
        empty=tools is not None and not tools,
    )
