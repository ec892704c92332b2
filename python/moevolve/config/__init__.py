"""A run's configuration: read strictly from TOML, written back as TOML, stored as canonical JSON.

- A field's type, range and meaning stand in one place, its annotation (`schema`): reader, writer and `init` use it (`io`).
- Everything unknown or impossible is a `ConfigError` that names the file, the full dotted key and a way out.
- A preset is a TOML file of the package; what a file leaves out has the defaults of the schema.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta

from moevolve.config import io
from moevolve.config.answers import longer, of_another_suite
from moevolve.config.files import parse_toml
from moevolve.config.generalise import GeneraliseSection
from moevolve.config.growth import GrowthSection
from moevolve.config.guards import GuardSection
from moevolve.config.io import nearest, parse_settings, presets
from moevolve.config.memory import MemorySection
from moevolve.config.roles import RolesSection
from moevolve.config.schema import (
    AgentSection,
    AttemptsSection,
    EndpointSection,
    EvolveSection,
    GateSection,
    LearnSection,
    PolicySection,
    ProposerSettings,
    SandboxSection,
    Section,
    SelectionSection,
    SuiteSection,
    ToolsSection,
    WordingSection,
)
from moevolve.errors import ConfigError
from moevolve.records import Arm

ARMS: tuple[str, ...] = get_args(Arm)

__all__ = [
    "ARMS",
    "Config",
    "EndpointSection",
    "GeneraliseSection",
    "GrowthSection",
    "GuardSection",
    "LearnSection",
    "MemorySection",
    "PolicySection",
    "RolesSection",
    "SandboxSection",
    "nearest",
    "parse_settings",
    "presets",
]


class Config(Section, frozen=True):
    """A resolved configuration. Equal configurations give equal runs."""

    name: Annotated[
        str, Meta(description="What the run is called", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    ] = "run"
    seed: Annotated[
        int, Meta(description="The one number that every draw comes from", ge=0, le=2**63 - 1)
    ] = 0
    arm: Annotated[Arm, Meta(description="Which parts of the loop are on: " + ", ".join(ARMS))] = "full"
    cycles: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Most cycles; left out: as many as fit in `minutes`"),
    ] = None
    minutes: Annotated[
        Annotated[float, Meta(gt=0.0)] | None, Meta(description="Time limit of the run, minutes")
    ] = None
    suite: SuiteSection = SuiteSection()
    agent: AgentSection = AgentSection()
    tools: ToolsSection = ToolsSection()
    policy: PolicySection = PolicySection()
    endpoint: EndpointSection = EndpointSection()
    wording: WordingSection = WordingSection()
    attempts: AttemptsSection = AttemptsSection()
    learn: LearnSection = LearnSection()
    memory: MemorySection = MemorySection()
    gate: GateSection = GateSection()
    growth: GrowthSection = GrowthSection()
    generalise: GeneraliseSection = GeneraliseSection()
    guard: GuardSection = GuardSection()
    selection: SelectionSection = SelectionSection()
    evolve: EvolveSection = EvolveSection()
    proposer: ProposerSettings = ProposerSettings()
    roles: RolesSection = RolesSection()
    sandbox: SandboxSection = SandboxSection()

    def __post_init__(self) -> None:
        if self.cycles is None and self.minutes is None:
            raise ValueError("a run needs an end: give `cycles`, `minutes` or both")
        if self.attempts.again and self.learn.loss != "sft":
            raise ValueError(
                "`attempts.again` finds right answers to imitate, and this `learn.loss` learns from whole groups: set "
                "attempts.again = 0"
            )
        if self.attempts.samples < 2 and self.learn.loss != "sft":
            raise ValueError(
                "this `learn.loss` compares attempts at one task: set attempts.samples to two or more"
            )
        if self.arm == "sft" and self.learn.loss != "sft":
            raise ValueError("arm sft trains without reward, so `learn.loss` must be sft there")
        if "command" in self.evolve.proposers and not self.proposer.command:
            raise ValueError("the proposer `command` needs proposer.command")
        for name, given in (("model", self.proposer.endpoint), ("command", self.proposer.command)):
            if given and name not in self.evolve.proposers:
                raise ValueError(f"[proposer] is asked where evolve.proposers names `{name}`")
        if self.guard.twin and self.arm == "random-reward":
            raise ValueError("arm random-reward is the twin: `guard.twin` belongs to another arm")
        if self.guard.twin and self.policy.endpoint is not None:
            raise ValueError(
                "`guard.twin` would ask the server for a second run: start arm random-reward beside it"
            )

    @classmethod
    def load(cls, source: str | Path, settings: Mapping[str, Any] | None = None) -> Config:
        """Reads a preset by name, or a TOML file.

        Args:
            source: a preset's name or the path of a TOML file.
            settings: dotted key -> value, on top of what the file says.

        Raises:
            UsageError: no such preset or file.
            ConfigError: a key or value that cannot be used.
        """
        text, where, name, folder = io.read(source)
        try:
            data = parse_toml(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{where} is not TOML: {error}") from None
        data.setdefault("name", name)
        if source in presets():
            data.setdefault("policy", {}).update(longer(data, settings or {}))
            if of_another_suite(data, settings or {}):
                data["suite"].pop("skills", None)
        for key, value in (settings or {}).items():
            io.put(data, key, value)
        return io.convert(data, Config, where)._beneath(folder)

    def _beneath(self, folder: Path) -> Config:
        """The configuration with paths made absolute, where they are relative to a folder."""
        return msgspec.structs.replace(
            self,
            policy=io.absolute(self.policy, "checkpoint", folder),
            endpoint=io.absolute(self.endpoint, "prices", folder),
            suite=io.absolute(self.suite, "path", folder),
            agent=io.absolute(self.agent, "path", folder),
            tools=io.absolute(self.tools, "path", folder),
            memory=io.absolute(self.memory, "shared", folder),
            proposer=msgspec.structs.replace(
                self.proposer, server=io.absolute(self.proposer.server, "prices", folder)
            ),
        )

    def with_settings(self, settings: Mapping[str, Any]) -> Config:
        """This configuration with settings on top: dotted key -> value, paths relative to the working folder.

        Raises:
            ConfigError: a key or value that cannot be used.
        """
        data = msgspec.to_builtins(self)
        for key, value in settings.items():
            io.put(data, key, value)
        return io.convert(data, Config, "the command's options")._beneath(Path.cwd())

    def override(
        self,
        *,
        seed: int | None = None,
        cycles: int | None = None,
        minutes: float | None = None,
        arm: str | None = None,
    ) -> Config:
        """This configuration with some of the first choices made anew.

        `cycles` alone takes the time limit away, so that the run has exactly as many; `minutes` alone takes
        the number of cycles away.

        Raises:
            ConfigError: a value out of range, or an unknown arm.
        """
        data = msgspec.to_builtins(self)
        if cycles is not None or minutes is not None:
            data |= {"cycles": cycles, "minutes": minutes}
        data |= {key: value for key, value in (("seed", seed), ("arm", arm)) if value is not None}
        return io.convert(data, Config, "the command's options")

    def canonical(self) -> str:
        """The configuration as JSON with sorted keys: what the journal holds."""
        return msgspec.json.encode(self, order="sorted").decode()

    @classmethod
    def from_canonical(cls, text: str) -> Config:
        """Reads what `canonical` wrote.

        Raises:
            ConfigError: another version of Moevolve wrote it.
        """
        try:
            return io.convert(
                io.moved(msgspec.json.decode(text, type=dict[str, Any])),
                Config,
                "the run's stored configuration",
            )
        except msgspec.DecodeError as error:
            raise ConfigError(f"the run's stored configuration is not JSON: {error}") from None

    def limits(self) -> RolesSection:
        """The roles' limits as they are in force."""
        return self.roles.resolved(self.policy.max_tokens)

    def run_name(self) -> str:
        """A name that equal configurations share and others do not, such as `quickstart-11-5f0c83aa`."""
        digest = hashlib.blake2b(self.canonical().encode(), digest_size=4).hexdigest()
        return f"{self.name}-{self.seed}-{digest}"

    def toml(self, *, comments: bool = False) -> str:
        """The configuration as TOML; `Config.load` reads the same one back.

        Args:
            comments: puts each key's meaning before it, and keys without a value as comments.
        """
        return "".join(f"{line}\n" for line in io.toml(self, comments))
