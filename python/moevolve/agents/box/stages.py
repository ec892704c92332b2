"""How an attempt of an agent in a box is put together: a file of the agent's folder that edits may change, as they cannot
change a program that is no function.

    retries = 1      # in agent.stages.toml: one more run where the first ended with an error, which it is told
    votes = 3        # three runs, each with its retries, and the answer that most of them give
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import Meta

from moevolve.config.files import parse_toml
from moevolve.errors import UsageError
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import PublicTask

STAGES = "agent.stages.toml"
RAISED = frozenset({"error", "crash", "malformed"})
"""Ends that the agent's own doing brought about, and that another run may avoid."""
MOST = 4
"""Further runs where one failed."""
MOST_VOTES = 9
"""Runs whose answers are counted."""


class Stages(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stages of an attempt."""

    retries: Annotated[int, Meta(ge=0, le=MOST)] = 0
    """Further runs after one that ended by itself with an error, a crash or no answer; each is told why the one before
    did, and has what that left of the attempt's requests, tokens and time."""
    votes: Annotated[int, Meta(ge=1, le=MOST_VOTES)] = 1
    """Runs whose commonest answer is the attempt's, of equals the earliest, with the workspace that this run left. Each
    may be tried again; none has answered that failed. All share the attempt's requests, tokens and time."""

    def toml(self) -> str:
        """The file that names them."""
        default = Stages()
        named = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return "".join(f"{name} = {value}\n" for name, value in named if value != getattr(default, name))


def stages_of(files: Mapping[str, str]) -> Stages:
    """The stages that an agent's files name.

    Raises:
        UsageError: the file cannot be used.
    """
    return _read(files.get(STAGES, ""))


@lru_cache(64)
def _read(text: str) -> Stages:
    try:
        return msgspec.convert(parse_toml(text), Stages)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{STAGES}: {error}") from None


def told(task: PublicTask, error: str) -> PublicTask:
    """A task for another run of an attempt, with why the one before had no answer."""
    prompt = f"{task.prompt}\n\nAn earlier attempt at this failed, see that this one does not:\n{error}"
    messages = task.messages
    if messages:
        messages = (*messages[:-1], Message(messages[-1].role, prompt))
    return msgspec.structs.replace(task, prompt=prompt, messages=messages)
