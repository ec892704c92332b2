"""The behaviour of a program in plans: what `solve` returned for each skill, decoded and checked once."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from moevolve.agents.plans.check import check
from moevolve.agents.plans.expression import PlanError, Text, UnsteadyPlan, decode
from moevolve.errors import StoreError
from moevolve.tasks.cutters import Cutter


class Behaviour(msgspec.Struct, frozen=True):
    """Plans by skill as JSON, and the reasons where there is none. A function of the program and the suite alone."""

    plans: dict[str, str]
    refused: dict[str, str] = {}
    computes: bool = False
    """`solve` is a coroutine: it answers with texts that it may compute, and there is no plan."""

    def encoded(self) -> bytes:
        """Its bytes in the store; equal behaviours have equal ones."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def decoded(cls, data: bytes) -> Behaviour:
        """From the bytes in a store.

        Raises:
            StoreError: they are no behaviour.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise StoreError(f"a program's plans cannot be read: {error}") from None

    def expressions(self, cutters: Mapping[str, Cutter]) -> dict[str, Text | PlanError]:
        """Skill -> its plan, or why there is none that the suite allows."""
        found: dict[str, Text | PlanError] = {
            skill: (UnsteadyPlan if reason.startswith(UnsteadyPlan.failure) else PlanError)(reason)
            for skill, reason in self.refused.items()
        }
        for skill, data in self.plans.items():
            try:
                plan = decode(data)
                check(plan, cutters)
                found[skill] = plan
            except PlanError as error:
                found[skill] = error
        return found
