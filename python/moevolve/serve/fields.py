"""Fields of a request that are not among those an endpoint works by: harmless ones, others' words, and unknown ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from moevolve.serve.failures import RequestError, unsupported

HARMLESS = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "verbosity",
        "prediction",
        "reasoning_effort",
        "request_id",
        "priority",
        "cache_salt",
        "background",
        "include",
        "truncation",
        "spaces_between_special_tokens",
    }
)
"""Fields that cannot change an answer here: names, accounts, places in others' queues and caches."""

ELSEWHERE: dict[str, tuple[tuple[Any, ...], str]] = {
    "bad_words": (([],), "use `logit_bias`"),
    "use_beam_search": ((False,), "use `best_of`"),
    "prompt_logprobs": ((False,), "use `echo` with `logprobs` in /v1/completions"),
    "include_stop_str_in_output": ((False,), "leave it out"),
    "skip_special_tokens": ((True,), "leave it out"),
    "truncate_prompt_tokens": ((), "shorten the prompt"),
    "prompt_embeds": ((), "send text or tokens"),
    "repeat_penalty": ((1, 1.0), "use `repetition_penalty`"),
    "n_predict": ((-1,), "use `max_tokens`"),
    "num_predict": ((), "use `max_tokens`"),
    "chat_template": ((), "the model's own counts"),
    "suffix": (("",), "text is completed at its end only"),
    "functions": (([],), "use `tools`"),
    "function_call": (("none",), "use `tool_choice`"),
    "audio": ((), "text only"),
    "modalities": ((["text"],), "text only"),
}
"""Fields of other servers, and of older interfaces, that would change an answer and are not built here: the values that ask
for what happens anyway, and what to do instead."""


def check_others(given: Mapping[str, Any], known: Iterable[str], *, ignore_unknown: bool) -> None:
    """Refuses fields that would change the answer and that this endpoint does not know; null counts as left out.

    Args:
        given: the JSON object.
        known: the endpoint's own fields.
        ignore_unknown: leave fields alone that nobody here has heard of.

    Raises:
        RequestError: names the field.
    """
    for name in given.keys() - set(known) - HARMLESS:
        value = given[name]
        if value is None:
            continue
        if name not in ELSEWHERE:
            if ignore_unknown:
                continue
            raise RequestError(
                400,
                f"{name}: this server does not know the field, and it may change the answer: leave it out, or start the "
                "server with --ignore-unknown",
                param=name,
                code="unknown_parameter",
            )
        harmless, instead = ELSEWHERE[name]
        if not any(type(value) is type(one) and value == one for one in harmless):
            raise unsupported(name, f"it is not built here, and would change the answer: {instead}")
