"""What an agent of one's own changes about the run that it is given to: its limits, and which suites it can work on."""

from __future__ import annotations

import msgspec

from moevolve.agents.box.attempt import time_of
from moevolve.agents.genome import Genome
from moevolve.agents.manifest import MANIFEST, manifest_of
from moevolve.config import Config
from moevolve.config.unset import filled
from moevolve.errors import UsageError
from moevolve.tasks.suite import Suite

BOXED_PROMPT = 200_000
"""Characters of a prompt of an agent in a box, where no other number is set: libraries' own words are long."""


def with_asked(config: Config, agent: Genome) -> Config:
    """The configuration with what an agent's description asks of the policy, in place of limits at their defaults, and with
    the stricter of both limits of time.

    Raises:
        UsageError: they do not go with the limits that it sets.
    """
    manifest, solver = manifest_of(agent.files), config.roles.solver
    asked = {"tokens": manifest.limits.tokens, "requests": manifest.limits.requests}
    try:
        solver = filled(solver, asked)
    except ValueError as error:
        raise UsageError(f"{MANIFEST}: limits: {error}") from None
    if manifest.boxed or manifest.limits.seconds is not None:
        solver = msgspec.structs.replace(solver, seconds=time_of(manifest, solver))
    return msgspec.structs.replace(config, roles=msgspec.structs.replace(config.roles, solver=solver))


def with_long_prompts(config: Config, agent: Genome) -> Config:
    """The configuration with `BOXED_PROMPT` in force where an agent in boxes has no limit of the file's."""
    solver = config.roles.solver
    if not manifest_of(agent.files).boxed or solver.prompt_chars is not None:
        return config
    solver = msgspec.structs.replace(solver, prompt_chars=BOXED_PROMPT)
    return msgspec.structs.replace(config, roles=msgspec.structs.replace(config.roles, solver=solver))


def answering(tasks: Suite, agent: Genome) -> None:
    """Refuses an agent that answers by itself where the policy's own answers count."""
    if tasks.answers == "policy" and manifest_of(agent.files).boxed:
        raise UsageError(
            f'suite {tasks.name} takes answers of the policy alone (answers = "policy"), put together by plans: an agent '
            f"that answers by itself works on another suite, --suite PATH"
        )
