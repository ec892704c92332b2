"""Requests as OpenAI's clients send them, decoded strictly: wrong types are refused by name, and so is what would change an
answer and is not built (`fields.py`).
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import msgspec

from moevolve.protocol.functions import with_tool_calls
from moevolve.protocol.sampling import Constraint, Sampling
from moevolve.randomness import key
from moevolve.serve.failures import unsupported, wrong
from moevolve.serve.forms import constraint_of
from moevolve.serve.messages import check_message, check_tool, name_of, text_of

MOST_STOPS = 16
LONGEST_STOP = 256
MOST_LOGPROBS = 20
MOST_BIASES = 1024
MOST_TOOLS = 1024
_TOKEN = re.compile("0|[1-9][0-9]{0,9}")
"""A token's number, written in one way only."""

OWN_VARIABLES = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "answer", "go_on", "conversation", "self"}
)
"""What a template gets from the conversation itself."""


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Padding against those who watch the traffic: no part of the answer."""


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What completions and chats have in common. `None` counts as left out."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    ignore_eos: bool | None = None
    user: str | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    allowed_token_ids: list[int] | None = None
    response_format: dict[str, Any] | None = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    structured_outputs: Any = None
    json_schema: Any = None
    grammar: Any = None

    @property
    def samples(self) -> int:
        """Samples a prompt."""
        return 1 if self.n is None else self.n

    @property
    def limit(self) -> int | None:
        """Most new tokens a sample, where the client says so."""
        return self.max_tokens

    @property
    def limit_field(self) -> str:
        """The name under which it says so."""
        return "max_tokens"

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end a sample."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def drawn(self) -> int:
        """Samples that are drawn for each prompt."""
        return self.samples

    @property
    def least(self) -> int:
        """Smallest number of new tokens that may be asked for."""
        return 1

    @cached_property
    def constraint(self) -> Constraint | None:
        """The form that the answer is held to.

        Raises:
            RequestError: names the field.
        """
        return constraint_of(self)

    def check(self) -> None:
        """Refuses what cannot be, or is not built.

        Raises:
            RequestError: names the field.
        """
        self._within("n", self.n, 1)
        self._within("temperature", self.temperature, 0, 100)
        self._within("top_k", self.top_k, -1)
        self._within("min_p", self.min_p, 0, 1)
        self._within("frequency_penalty", self.frequency_penalty, -2, 2)
        self._within("presence_penalty", self.presence_penalty, -2, 2)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise wrong("top_p", "it lies in (0, 1]")
        if self.repetition_penalty is not None and not 0 < self.repetition_penalty <= 10:
            raise wrong("repetition_penalty", "it lies in (0, 10]")
        if self.limit is not None and self.limit < self.least:
            raise wrong(self.limit_field, f"at least {self.least}")
        self._within("min_tokens", self.min_tokens, 0, self.limit)
        if self.constraint is not None and self.ignore_eos:
            raise wrong("ignore_eos", "an answer that is held to a form ends where it does")
        if len(self.stops) > MOST_STOPS or any(not 0 < len(text) <= LONGEST_STOP for text in self.stops):
            raise wrong("stop", f"at most {MOST_STOPS} texts of 1 to {LONGEST_STOP} characters")
        if self.stream_options is not None and not self.stream:
            raise wrong("stream_options", "it belongs to a stream: add `stream`")

    def _within(self, name: str, value: float | None, low: float, high: float | None = None) -> None:
        if value is None:
            return
        if not value >= low or (high is not None and value > high):
            raise wrong(
                name, f"at least {low:g}" if high is None else f"it lies between {low:g} and {high:g}"
            )

    def sampling(
        self, max_tokens: int, vocabulary: int, *, top_logprobs: int = 0, speculate: int = 0
    ) -> Sampling:
        """How tokens are drawn.

        Args:
            max_tokens: new tokens a sample.
            vocabulary: number of tokens, for the biases.
            top_logprobs: alternatives of each token.
            speculate: most draft tokens a step.
        """
        return Sampling(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=min(max(0, self.top_k or 0), vocabulary),
            min_p=self.min_p or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            stop=self.stops,
            logit_bias=self._biases(vocabulary),
            top_logprobs=top_logprobs,
            speculate=speculate,
            ignore_eos=bool(self.ignore_eos),
            min_tokens=min(self.min_tokens or 0, max_tokens),
            stop_tokens=self._tokens("stop_token_ids", self.stop_token_ids, vocabulary),
            allowed_tokens=self._tokens("allowed_token_ids", self.allowed_token_ids, vocabulary),
            constraint=self.constraint,
        )

    @staticmethod
    def _tokens(name: str, given: list[int] | None, vocabulary: int) -> tuple[int, ...]:
        if name == "allowed_token_ids" and given == []:
            raise wrong(name, "at least one token")
        if given is not None and len(given) > vocabulary:
            raise wrong(name, f"at most {vocabulary} tokens")
        if wide := [token for token in given or () if not 0 <= token < vocabulary]:
            raise wrong(name, f"{wide[0]} is no token: they are numbers below {vocabulary}")
        return tuple(given or ())

    def keys(self, index: int, fallback: int) -> list[int]:
        """The samples' keys: those of `Engine.generate` with this seed, or fresh ones where none is asked for."""
        seed = fallback if self.seed is None else self.seed
        return [key(seed, "generate", index, sample) for sample in range(self.drawn)]

    def _biases(self, vocabulary: int) -> tuple[tuple[int, float], ...]:
        if not self.logit_bias:
            return ()
        if len(self.logit_bias) > MOST_BIASES:
            raise wrong("logit_bias", f"at most {MOST_BIASES} tokens")
        biases = []
        for name, bias in self.logit_bias.items():
            if not _TOKEN.fullmatch(name) or int(name) >= vocabulary:
                raise wrong("logit_bias", f"{name!r} is no token: they are numbers below {vocabulary}")
            if not -100 <= bias <= 100:
                raise wrong("logit_bias", "biases lie between -100 and 100")
            biases.append((int(name), bias))
        return tuple(sorted(biases))


class CompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[str | int | list[int]]
    logprobs: int | None = None
    echo: bool | None = None
    best_of: int | None = None
    add_special_tokens: bool | None = None

    @property
    def drawn(self) -> int:
        return self.samples if self.best_of is None else self.best_of

    @property
    def least(self) -> int:
        return 0 if self.echo else 1

    @property
    def scored(self) -> bool:
        """Whether log-probabilities of the prompt are asked for."""
        return bool(self.echo) and self.logprobs is not None

    @property
    def prompts(self) -> list[str | list[int]]:
        """One entry a prompt."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [entry for entry in self.prompt if isinstance(entry, int)]
        return [ids] if ids else [entry for entry in self.prompt if not isinstance(entry, int)]

    def check(self) -> None:
        super().check()
        if not self.prompts:
            raise wrong("prompt", "at least one prompt")
        if isinstance(self.prompt, list) and len({type(entry) for entry in self.prompt}) > 1:
            raise wrong("prompt", "texts, or tokens, or lists of tokens, and not several of them")
        self._within("logprobs", self.logprobs, 0, MOST_LOGPROBS)
        self._within("best_of", self.best_of, self.samples)
        if self.stream and self.drawn > self.samples:
            raise wrong("best_of", "which samples are the best is known in the end: it streams nothing")


class ChatRequest(GenerationRequest, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def limit_field(self) -> str:
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def offered(self) -> list[dict[str, Any]]:
        """Tools that the model may call."""
        named = self.named
        if named is not None:
            allowed = set(named)
            return [tool for tool in self.tools or () if tool["function"]["name"] in allowed]
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def listed(self) -> list[dict[str, Any]] | None:
        """The same as a template gets them: None, and no empty list, where there are none or none may be called."""
        return self.offered or (None if self.tool_choice == "none" else self.tools)

    @property
    def named(self) -> list[str] | None:
        """The names of the tools that `tool_choice` allows, None where it names none."""
        choice = self.tool_choice
        if not isinstance(choice, dict):
            return None
        if choice.get("type") == "allowed_tools":
            allowed = choice.get("allowed_tools", choice)
            tools = allowed.get("tools") if isinstance(allowed, dict) else None
            return [name_of(tool) for tool in tools] if isinstance(tools, list) else []
        return [name_of(choice)]

    @property
    def forced(self) -> bool:
        """Whether the turn must call a tool."""
        choice = self.tool_choice
        if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
            allowed = choice.get("allowed_tools", choice)
            return isinstance(allowed, dict) and allowed.get("mode") == "required"
        return choice == "required" or isinstance(choice, dict)

    @property
    def parallel(self) -> bool:
        """Whether the turn may make several calls."""
        one = isinstance(self.tool_choice, dict) and self.tool_choice.get("type") == "function"
        return self.parallel_tool_calls is not False and not one

    @property
    def variables(self) -> dict[str, Any]:
        """The template's own settings."""
        effort = {} if self.reasoning_effort is None else {"reasoning_effort": self.reasoning_effort}
        return {**effort, **(self.chat_template_kwargs or {})}

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """The conversation as templates are written for: `developer` under its older name, no null content, and calls
        in the history as tools have them.

        Raises:
            Unsaid: a call in the older form that is none.
        """
        return [
            {
                **message,
                "role": "system" if message["role"] == "developer" else message["role"],
                "content": "" if message.get("content") is None else message["content"],
            }
            for message in with_tool_calls(self.messages)
        ]

    def check(self) -> None:
        """As of every request.

        Raises:
            RequestError: names the field.
            Unsaid: a call in the history's older form that is none; names the field.
        """
        super().check()
        if not self.messages:
            raise wrong("messages", "at least one message")
        if taken := OWN_VARIABLES & self.variables.keys():
            raise wrong("chat_template_kwargs", f"{', '.join(sorted(taken))} come from the conversation")
        for index, message in enumerate(self.messages):
            check_message(f"messages[{index}]", message)
        with_tool_calls(self.messages)
        if len(self.tools or ()) > MOST_TOOLS:
            raise wrong("tools", f"at most {MOST_TOOLS} tools")
        for index, tool in enumerate(self.tools or []):
            function = tool.get("function")
            named = isinstance(function, dict) and isinstance(function.get("name"), str)
            if tool.get("type") != "function" or not named:
                raise wrong(
                    f"tools[{index}]", 'a tool is {"type": "function", "function": {"name": ..., ...}}'
                )
            check_tool(f"tools[{index}].function", tool["function"])
        self._check_tool_names()
        self._check_choice()
        if self.continue_final_message and self.add_generation_prompt:
            raise wrong("continue_final_message", "it and `add_generation_prompt` exclude each other")
        if self.continue_final_message and not text_of(self.messages[-1]):
            raise wrong("continue_final_message", "the last message has no text to go on from")
        self._within("top_logprobs", self.top_logprobs, 0, MOST_LOGPROBS)
        if self.top_logprobs and not self.logprobs:
            raise wrong("top_logprobs", "it belongs to log-probabilities: add `logprobs`")

    def _check_tool_names(self) -> None:
        names: set[str] = set()
        for index, tool in enumerate(self.tools or ()):
            name = tool["function"]["name"]
            if name in names:
                raise wrong(f"tools[{index}].function.name", f"{name!r} is the name of another tool, too")
            names.add(name)

    def _check_choice(self) -> None:
        choice, names = self.tool_choice, {tool["function"]["name"] for tool in self.tools or ()}
        if isinstance(choice, dict):
            if choice.get("type") not in ("function", "allowed_tools"):
                raise unsupported("tool_choice", "`none`, `auto`, `required`, or a function by its name")
            if unknown := [name for name in self.named or [""] if name not in names]:
                raise wrong("tool_choice", f"{unknown[0]!r} is none of the tools")
        elif choice not in (None, "none", "auto", "required"):
            raise unsupported("tool_choice", "`none`, `auto`, `required`, or a function by its name")
        if self.forced and not names:
            raise wrong("tool_choice", "there are no `tools` to call")
        if self.forced and self.ignore_eos:
            raise wrong("ignore_eos", "a turn that must be a call ends where that does")
        if self.forced and self.constraint is not None:
            raise wrong("tool_choice", "the turn must be a call, and its answer is asked for in another form")
