"""Requests as OpenAI's clients send them, decoded strictly: wrong types are refused by name, unknown keys are left alone.

A key that is known and would change what an answer means is refused unless its value asks for what happens anyway.
"""

from __future__ import annotations

from typing import Any

import msgspec

from moevolve.protocol.sampling import Sampling
from moevolve.randomness import key
from moevolve.serve.failures import unsupported, wrong

MOST_STOPS = 16
LONGEST_STOP = 256
MOST_LOGPROBS = 20
MOST_BIASES = 1024

OWN_VARIABLES = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "answer", "conversation"}
)
"""What a template gets from the conversation itself."""


NOT_BUILT: dict[str, tuple[Any, ...]] = {
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
    "grammar": (),
    "json_schema": (),
    "stop_token_ids": ([],),
    "min_tokens": (0,),
    "bad_words": ([],),
    "allowed_token_ids": ([],),
    "use_beam_search": (False,),
    "prompt_logprobs": (False,),
    "include_stop_str_in_output": (False,),
    "truncate_prompt_tokens": (),
    "repeat_penalty": (1, 1.0),
    "n_predict": (-1,),
    "prompt_embeds": (),
    "best_of": (1,),
    "echo": (False,),
    "continue_final_message": (False,),
    "chat_template": (),
}
"""Fields of other servers that would change what an answer means, and the values that ask for what happens anyway."""


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
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
    response_format: dict[str, Any] | None = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    structured_outputs: Any = None
    grammar: Any = None
    json_schema: Any = None
    stop_token_ids: Any = None
    min_tokens: Any = None
    bad_words: Any = None
    allowed_token_ids: Any = None
    use_beam_search: Any = None
    prompt_logprobs: Any = None
    include_stop_str_in_output: Any = None
    truncate_prompt_tokens: Any = None
    repeat_penalty: Any = None
    n_predict: Any = None
    prompt_embeds: Any = None

    @property
    def samples(self) -> int:
        """Samples a prompt."""
        return 1 if self.n is None else self.n

    @property
    def limit(self) -> int | None:
        """Most new tokens a sample, where the client says so."""
        return self.max_tokens

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
    def not_built(self) -> list[str]:
        """The fields of `NOT_BUILT` that this endpoint has no meaning of its own for."""
        return [name for name in NOT_BUILT if name in self.__struct_fields__]

    def check(self) -> None:
        """Refuses what cannot be, or is not built.

        Raises:
            RequestError: names the field.
        """
        for name in self.not_built:
            value = getattr(self, name)
            harmless = NOT_BUILT[name]
            if value is not None and not any(type(value) is type(one) and value == one for one in harmless):
                raise unsupported(name, "it is not built here, and would change the answer: leave it out")
        if self.response_format is not None and self.response_format.get("type", "text") != "text":
            raise unsupported("response_format", "`text` only: the model is not held to a grammar")
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
        if self.limit is not None and self.limit < 1:
            raise wrong("max_tokens", "at least 1")
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
        )

    def keys(self, index: int, fallback: int) -> list[int]:
        """The samples' keys: those of `Engine.generate` with this seed, or fresh ones where none is asked for."""
        seed = fallback if self.seed is None else self.seed
        return [key(seed, "generate", index, sample) for sample in range(self.samples)]

    def _biases(self, vocabulary: int) -> tuple[tuple[int, float], ...]:
        if not self.logit_bias:
            return ()
        if len(self.logit_bias) > MOST_BIASES:
            raise wrong("logit_bias", f"at most {MOST_BIASES} tokens")
        biases = []
        for name, bias in self.logit_bias.items():
            if not name.isdecimal() or int(name) >= vocabulary:
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
    suffix: str | None = None
    best_of: int | None = None

    @property
    def not_built(self) -> list[str]:
        return [name for name in super().not_built if name not in ("best_of", "echo")]

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
        if self.suffix:
            raise unsupported("suffix", "text is completed at its end only")
        if self.best_of is not None and self.best_of != self.samples:
            raise unsupported("best_of", "every sample is returned: use `n`")
        if self.echo and self.logprobs is not None:
            raise unsupported("echo", "log-probabilities of the prompt are not told")


class ChatRequest(GenerationRequest, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    best_of: Any = None
    echo: Any = None
    continue_final_message: Any = None
    chat_template: Any = None
    chat_template_kwargs: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[str] | None = None
    audio: Any = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def offered(self) -> list[dict[str, Any]]:
        """Tools that the model may call."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def variables(self) -> dict[str, Any]:
        """The template's own settings."""
        return self.chat_template_kwargs or {}

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """The conversation as templates are written for: `developer` under its older name, no null content."""
        return [
            {
                **message,
                "role": "system" if message["role"] == "developer" else message["role"],
                "content": "" if message.get("content") is None else message["content"],
            }
            for message in self.messages
        ]

    def check(self) -> None:
        super().check()
        if not self.messages:
            raise wrong("messages", "at least one message")
        if taken := OWN_VARIABLES & self.variables.keys():
            raise wrong("chat_template_kwargs", f"{', '.join(sorted(taken))} come from the conversation")
        for index, message in enumerate(self.messages):
            _check_message(f"messages[{index}]", message)
        for index, tool in enumerate(self.tools or []):
            function = tool.get("function")
            named = isinstance(function, dict) and isinstance(function.get("name"), str)
            if tool.get("type") != "function" or not named:
                raise wrong(
                    f"tools[{index}]", 'a tool is {"type": "function", "function": {"name": ..., ...}}'
                )
        if self.tool_choice not in (None, "none", "auto"):
            raise unsupported("tool_choice", "`none` or `auto`: the model is not forced to call")
        if self.parallel_tool_calls is False and self.offered:
            raise unsupported("parallel_tool_calls", "the model decides how many calls it makes")
        if self.functions or self.function_call not in (None, "none"):
            raise unsupported("functions", "use `tools`")
        if self.audio is not None or (self.modalities and self.modalities != ["text"]):
            raise unsupported("modalities", "text only")
        self._within("top_logprobs", self.top_logprobs, 0, MOST_LOGPROBS)
        if self.top_logprobs and not self.logprobs:
            raise wrong("top_logprobs", "it belongs to log-probabilities: add `logprobs`")


def _check_message(where: str, message: dict[str, Any]) -> None:
    if not isinstance(message.get("role"), str):
        raise wrong(f"{where}.role", "a message has a role")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong(f"{where}.content", "a text, or a list of parts")
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise unsupported(f"{where}.content", 'parts are {"type": "text", "text": ...}')
