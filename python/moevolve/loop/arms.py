"""Arms: which parts of the loop are on. Everything else of a run stays the same between arms."""

import msgspec

from moevolve.config import Config
from moevolve.records import Arm


class ArmSwitches(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm does."""

    learns: bool
    """Weights are trained and gated."""
    searches: bool
    """Programs are proposed and gated."""
    verdicts: bool = True
    """The sealed grader decides; otherwise a coin does, everywhere but in the reported scores."""
    alternates: bool = False
    """One of both levels has its turn in a cycle, until it makes no progress."""
    filters: bool = True
    """Only confirmed answers are trained on; otherwise every answer is."""


ARMS: dict[Arm, ArmSwitches] = {
    "full": ArmSwitches(learns=True, searches=True),
    "weights": ArmSwitches(learns=True, searches=False),
    "program": ArmSwitches(learns=False, searches=True),
    # Both, in turns, as in BetterTogether (Soylu et al. 2024): programs first, since they make what weights learn from.
    "alternate": ArmSwitches(learns=True, searches=True, alternates=True),
    # Null: the whole loop, steered by coin flips. A gain here would be an artefact.
    "random-reward": ArmSwitches(learns=True, searches=True, verdicts=False),
    # Null: as much training on the policy's own answers, right or wrong. No gold answer is used here either.
    "sft": ArmSwitches(learns=True, searches=False, filters=False),
}


def switches(config: Config) -> ArmSwitches:
    """What a run does: its arm, without training where the weights are a server's."""
    arm = ARMS[config.arm]
    if config.policy.endpoint is None:
        return arm
    return msgspec.structs.replace(arm, learns=False, alternates=False)
