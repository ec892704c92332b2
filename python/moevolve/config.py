"""A run's configuration: read strictly from TOML, written back as TOML, stored as canonical JSON.

- A field's type, range and meaning stand in one place, its annotation: reader, writer and `init` use it.
- Everything unknown or impossible is a `ConfigError` that names the file, the full dotted key and a way out.
- A preset is a TOML file of the package; what a file leaves out has the defaults below.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from moevolve.errors import ConfigError, UsageError
from moevolve.records import Arm, Recipe

PRESETS = "moevolve.presets"
ARMS: tuple[str, ...] = get_args(Arm)

_Section = TypeVar("_Section", bound="Section")
Rate = Annotated[float, Meta(gt=0.0, le=1.0)]
LevelNumber = Annotated[int, Meta(ge=1, le=64)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a table of the file."""


class SuiteSection(Section, frozen=True):
    name: Annotated[str, Meta(description="Which suite of tasks", min_length=1)] = "primer"
    skills: Annotated[
        tuple[str, ...], Meta(description="Skills that the run works on; left empty: all of the suite")
    ] = ()
    levels: Annotated[
        tuple[LevelNumber, LevelNumber], Meta(description="Lowest and highest level that the run works on")
    ] = (1, 16)
    sealed_per_cell: Annotated[
        int, Meta(description="Sealed tasks per (skill, level): the score before and after", ge=1, le=1000)
    ] = 8
    dev_per_cell: Annotated[
        int, Meta(description="Dev tasks per (skill, level): the curve, once a cycle", ge=1, le=1000)
    ] = 2

    def __post_init__(self) -> None:
        if self.levels[0] > self.levels[1]:
            raise ValueError(f"levels must be [lowest, highest], not {list(self.levels)}")
        if len(set(self.skills)) < len(self.skills):
            raise ValueError("skills must each be named once")


class PolicySection(Section, frozen=True):
    checkpoint: Annotated[
        str | None,
        Meta(
            description="A checkpoint's folder (Hugging Face layout) or GGUF file; left out: the shipped seed"
        ),
    ] = None
    threads: Annotated[int, Meta(description="Threads of the engine; 0 takes every core", ge=0, le=1024)] = 0
    precision: Annotated[
        Literal["auto", "f32", "bf16"],
        Meta(
            description="What products round their operands to; auto: bf16 where the CPU multiplies it faster"
        ),
    ] = "auto"
    max_tokens: Annotated[int, Meta(description="Most tokens of one direct answer", ge=1, le=4096)] = 24
    temperature: Annotated[float, Meta(description="Temperature of direct attempts", ge=0.0, le=10.0)] = 1.0
    endpoint: Annotated[
        str | None,
        Meta(description="Base address of an OpenAI-compatible server that answers instead, up to its /v1"),
    ] = None
    model: Annotated[
        Annotated[str, Meta(min_length=1)] | None, Meta(description="The server's name of the model")
    ] = None
    key_env: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")] | None,
        Meta(description="Environment variable that holds the server's key; never the key itself"),
    ] = None

    def __post_init__(self) -> None:
        if self.endpoint is None:
            if self.model is not None or self.key_env is not None:
                raise ValueError("model and key_env belong to an endpoint: give `endpoint` too")
            return
        if self.checkpoint is not None:
            raise ValueError("either `checkpoint` or `endpoint` answers, not both")
        if self.model is None:
            raise ValueError("an endpoint needs `model`, the server's name of the model")
        address = urlsplit(self.endpoint)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("endpoint must be an address such as http://127.0.0.1:8000/v1")
        if address.username or address.password or address.query or address.fragment:
            raise ValueError(
                "endpoint must be a plain address: a key goes into the environment variable that `key_env` names"
            )


Price = Annotated[float, Meta(ge=0.0, le=1e6)]


class EndpointSection(Section, frozen=True):
    """How a server is asked, and what it costs. Nothing here matters to a run on weights."""

    api: Annotated[Literal["chat", "completions"], Meta(description="Which of the server's interfaces")] = (
        "chat"
    )
    system: Annotated[str | None, Meta(description="System prompt of every chat request")] = None
    token_field: Annotated[
        Literal["max_tokens", "max_completion_tokens"],
        Meta(description="What the server calls the most tokens of an answer"),
    ] = "max_tokens"
    concurrency: Annotated[int, Meta(description="Requests under way at once", ge=1, le=1024)] = 8
    retries: Annotated[int, Meta(description="Further tries after a failed call", ge=0, le=100)] = 5
    timeout: Annotated[float, Meta(description="Most seconds of one call", gt=0.0, le=86_400.0)] = 120.0
    per_minute: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Most calls a minute; left out: as the server allows"),
    ] = None
    give_up: Annotated[
        int, Meta(description="Requests failed in a row, retries and all, that end the run", ge=1, le=10**6)
    ] = 64
    prices: Annotated[
        str | None,
        Meta(description="TOML file of prices; the run keeps the model's own in the keys below"),
    ] = None
    currency: Annotated[str, Meta(description="What prices are in", min_length=1, max_length=16)] = "USD"
    price_input: Annotated[Price | None, Meta(description="Price of 10^6 prompt tokens")] = None
    price_cached: Annotated[
        Price | None, Meta(description="Price of 10^6 prompt tokens that the server had cached")
    ] = None
    price_output: Annotated[Price | None, Meta(description="Price of 10^6 generated tokens")] = None
    most_tokens: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Spending limit in tokens, read and generated; the run ends before it is passed"),
    ] = None
    most_cost: Annotated[
        Annotated[float, Meta(gt=0.0)] | None, Meta(description="Spending limit in money; needs prices")
    ] = None

    def __post_init__(self) -> None:
        if (self.price_input is None) != (self.price_output is None):
            raise ValueError("give `price_input` and `price_output`, or neither")
        if self.most_cost is not None and self.price_input is None and self.prices is None:
            raise ValueError("`most_cost` needs prices: give `prices`, or `price_input` and `price_output`")


class WordingSection(Section, frozen=True):
    style: Annotated[
        Literal["auto", "bare", "chat"],
        Meta(
            description="The suite's texts as they are, or conversations; auto: chat where a checkpoint has a template"
        ),
    ] = "auto"
    shots: Annotated[int, Meta(description="Solved train tasks shown before the question", ge=0, le=64)] = 2
    spell: Annotated[bool, Meta(description="Write the letters of a payload apart")] = True


class AttemptsSection(Section, frozen=True):
    tasks: Annotated[
        int, Meta(description="Train tasks a cycle, direct and through the program", ge=1, le=10**6)
    ] = 768
    samples: Annotated[int, Meta(description="Direct attempts per task", ge=1, le=256)] = 4


class LearnSection(Section, frozen=True):
    method: Annotated[
        Literal["auto", "full", "lora"],
        Meta(
            description="Train all weights, or a low-rank adapter; auto: lora for a GGUF file or above 1e8 parameters"
        ),
    ] = "auto"
    buffer: Annotated[int, Meta(description="Confirmed answers kept for training", ge=1, le=10**7)] = 20_000
    steps: Annotated[
        int, Meta(description="Most steps of a learning stage, whatever its recipe asks for", ge=0, le=10**5)
    ] = 400
    batch: Annotated[
        int, Meta(description="Most answers of a step, whatever its recipe asks for", ge=1, le=4096)
    ] = 256
    learning_rate: Annotated[
        tuple[Rate, Rate], Meta(description="Lowest and highest learning rate that a recipe may ask for")
    ] = (1e-5, 1e-2)
    positions: Annotated[
        Literal["auto", "plain", "spread"],
        Meta(
            description="Positions of training sequences, from 0 or spread at random; auto: spread with bare texts"
        ),
    ] = "auto"
    loss: Annotated[
        Literal["sft", "cispo", "grpo", "dapo", "dr_grpo"],
        Meta(
            description="sft: confirmed answers by cross-entropy; the others: this cycle's direct attempts, right and wrong"
        ),
    ] = "sft"
    clip: Annotated[
        tuple[Annotated[float, Meta(ge=0.0, le=1.0)], Annotated[float, Meta(gt=0.0, le=100.0)]],
        Meta(description="How far below and above 1 a loss bounds the ratio; cispo has no bound below"),
    ] = (0.2, 4.0)
    schedule: Annotated[
        Literal["linear", "cosine"],
        Meta(description="How the learning rate falls after its warm-up, to a tenth"),
    ] = "linear"
    rank: Annotated[int, Meta(description="Rank of an adapter", ge=1, le=1024)] = 8
    scale: Annotated[
        float, Meta(description="An adapter's alpha: it counts alpha/rank times", gt=0.0, le=4096.0)
    ] = 16.0
    targets: Annotated[
        tuple[str, ...],
        Meta(
            description="Matrices that an adapter stands beside, such as q_proj; left empty: all of a layer"
        ),
    ] = ()

    def __post_init__(self) -> None:
        if self.learning_rate[0] > self.learning_rate[1]:
            raise ValueError(f"learning_rate must be [lowest, highest], not {list(self.learning_rate)}")

    def bounded(self, recipe: Recipe) -> Recipe:
        """What a recipe asks for, as far as this run grants it."""
        low, high = self.learning_rate
        return msgspec.structs.replace(
            recipe,
            steps=min(recipe.steps, self.steps),
            batch=min(recipe.batch, self.batch),
            learning_rate=min(high, max(low, recipe.learning_rate)),
        )


class GateSection(Section, frozen=True):
    alpha: Annotated[
        float, Meta(description="Bound on the probability of a false promotion", gt=0.0, lt=1.0)
    ] = 0.01
    margin: Annotated[
        float, Meta(description="How much a skill may lose before it vetoes", ge=0.0, lt=1.0)
    ] = 0.05
    min_n: Annotated[int, Meta(description="Least paired tasks before a promotion", ge=1, le=10**6)] = 192
    max_n: Annotated[int, Meta(description="Most paired tasks of a decision", ge=1, le=10**6)] = 1536
    batch: Annotated[int, Meta(description="Paired tasks between two looks", ge=1, le=10**5)] = 96

    def __post_init__(self) -> None:
        if self.min_n > self.max_n:
            raise ValueError(f"min_n must be at most max_n, but {self.min_n} > {self.max_n}")


class EvolveSection(Section, frozen=True):
    candidates: Annotated[
        int, Meta(description="Programs that an improver proposes at once", ge=1, le=1000)
    ] = 8
    screen: Annotated[int, Meta(description="Train tasks that screen a proposal", ge=1, le=10**5)] = 192
    margin: Annotated[
        float,
        Meta(description="Lead on the screening tasks that takes a proposal to the gate", ge=0.0, lt=1.0),
    ] = 0.0
    generations: Annotated[int, Meta(description="Rounds of proposals a cycle", ge=1, le=1000)] = 1
    requests: Annotated[
        int, Meta(description="Requests that an improver may make to try its ideas out", ge=0, le=10**6)
    ] = 4096


class SandboxSection(Section, frozen=True):
    strict: Annotated[bool, Meta(description="Refuse to run where a layer of the sandbox is missing")] = False
    memory_mb: Annotated[
        int, Meta(description="Address space of a program's process, MiB", ge=64, le=10**6)
    ] = 512
    seconds: Annotated[
        float,
        Meta(
            description="Most seconds of a program's process, the policy's time left out", gt=0.0, le=86_400.0
        ),
    ] = 60.0


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
    policy: PolicySection = PolicySection()
    endpoint: EndpointSection = EndpointSection()
    wording: WordingSection = WordingSection()
    attempts: AttemptsSection = AttemptsSection()
    learn: LearnSection = LearnSection()
    gate: GateSection = GateSection()
    evolve: EvolveSection = EvolveSection()
    sandbox: SandboxSection = SandboxSection()

    def __post_init__(self) -> None:
        if self.cycles is None and self.minutes is None:
            raise ValueError("a run needs an end: give `cycles`, `minutes` or both")
        if self.arm == "sft" and self.learn.loss != "sft":
            raise ValueError("arm sft trains without reward, so `learn.loss` must be sft there")

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
        text, where, name, folder = _read(source)
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{where} is not TOML: {error}") from None
        data.setdefault("name", name)
        for key, value in (settings or {}).items():
            _set(data, key, value)
        config = _convert(data, where)
        return msgspec.structs.replace(
            config,
            policy=_absolute(config.policy, "checkpoint", folder),
            endpoint=_absolute(config.endpoint, "prices", folder),
        )

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
        return _convert(data, "the command's options")

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
            return _convert(msgspec.json.decode(text, type=dict[str, Any]), "the run's stored configuration")
        except msgspec.DecodeError as error:
            raise ConfigError(f"the run's stored configuration is not JSON: {error}") from None

    def run_name(self) -> str:
        """A name that equal configurations share and others do not, such as `quickstart-11-5f0c83aa`."""
        digest = hashlib.blake2b(self.canonical().encode(), digest_size=4).hexdigest()
        return f"{self.name}-{self.seed}-{digest}"

    def toml(self, *, comments: bool = False) -> str:
        """The configuration as TOML; `Config.load` reads the same one back.

        Args:
            comments: puts each key's meaning before it, and keys without a value as comments.
        """
        return "".join(f"{line}\n" for line in _toml(self, comments))


def presets() -> list[str]:
    """Names of the shipped presets."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in files(PRESETS).iterdir() if entry.name.endswith(".toml")
    )


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Reads `KEY=VALUE` texts; a value is TOML, or a plain string where it is none.

    Raises:
        UsageError: a text without a key or `=`.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set takes KEY=VALUE, such as gate.alpha=0.05, not {setting!r}")
        try:
            found[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value.strip()
    return found


def nearest(word: str, known: Sequence[str]) -> str:
    """` (did you mean ...?)`, or nothing where no known word is near."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean `{close[0]}`?)" if close else ""


# ---------------------------------------------------------------------- reading


def _read(source: str | Path) -> tuple[str, str, str, Path]:
    """(text, what to call it in messages, the run's name, the folder that relative paths start from)."""
    known = presets()
    if isinstance(source, str) and source in known:
        text = (files(PRESETS) / f"{source}.toml").read_text(encoding="utf-8")
        return text, f"preset {source}", source, Path.cwd()
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path.suffix == ".toml" or len(path.parts) > 1:
            raise UsageError(
                f"there is no file {path}: `moevolve init {path}` writes one to start from"
            ) from None
        raise UsageError(
            f"unknown preset `{source}`{nearest(str(source), known)}: presets are {', '.join(known)}; "
            f"a file's name ends in .toml"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read as a configuration: {error.strerror}") from None
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-")[:64] or "run"
    return text, str(path), name, path.resolve().parent


def _absolute(section: _Section, field: str, folder: Path) -> _Section:
    """The section with the path of `field` made absolute."""
    path = getattr(section, field)
    if path is None or Path(path).is_absolute():
        return section
    return msgspec.structs.replace(section, **{field: str((folder / path).resolve())})


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for table in tables:
        data = data.setdefault(table, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {key}: `{table}` is not a table")
    data[last] = value


def _convert(data: Mapping[str, Any], where: str) -> Config:
    unknown = list(_unknown(data, Config, ""))
    if unknown:
        raise ConfigError(f"{where}: " + "; ".join(unknown))
    for key, value in _leaves(data, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}: `{key}` must be a finite number, not {value}")
    try:
        return msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).rpartition(" - at `$")
        if not reason:
            raise ConfigError(f"{where}: {error}") from None
        key = place.rstrip("`").lstrip(".")
        value = _value(data, key)
        # What stands where a key's name belongs may be the key.
        secret = key.endswith("key_env")
        shown = (
            f", not {value!r}" if not secret and value is not None and not isinstance(value, Mapping) else ""
        )
        if isinstance(value, str) and key == "arm":
            raise ConfigError(
                f"{where}: unknown arm `{value}`{nearest(value, ARMS)}: arms are {', '.join(ARMS)}"
            ) from None
        wanted = re.sub(r", got `\w+`$", "", reason[0].lower() + reason[1:])
        raise ConfigError(f"{where}: `{key}`: {wanted}{shown}") from None


def _unknown(data: Mapping[str, Any], struct: type[Section], prefix: str) -> Iterator[str]:
    """One clause for each key that the structs lack."""
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in data.items():
        kind = fields.get(key)
        if kind is None:
            home = next((f" (it belongs in [{table}])" for table in _homes(key)), "")
            yield f"unknown key `{prefix}{key}`{home or nearest(key, list(fields)) or _known(prefix, fields)}"
        elif isinstance(kind, type) and issubclass(kind, Section) and isinstance(value, Mapping):
            yield from _unknown(value, kind, f"{prefix}{key}.")


def _known(prefix: str, fields: Mapping[str, Any]) -> str:
    return f" (known {'in [' + prefix[:-1] + ']' if prefix else 'at the top'}: {', '.join(fields)})"


def _homes(key: str) -> Iterator[str]:
    """Tables that have a key of this name."""
    for field in msgspec.structs.fields(Config):
        if (
            isinstance(field.type, type)
            and issubclass(field.type, Section)
            and key in field.type.__struct_fields__
        ):
            yield field.name


def _leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(data: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(data, Mapping):
            return None
        data = data.get(part)
    return data


# ---------------------------------------------------------------------- writing


def _toml(section: Section, comments: bool) -> Iterator[str]:
    tables = []
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, Section):
            tables.append((field.name, value))
            continue
        if comments:
            yield f"# {_description(type(section), field.name)}."
        if value is not None:
            yield f"{field.name} = {_literal(value)}"
        elif comments:
            yield f"# {field.name} ="
    for name, table in tables:
        yield ""
        yield f"[{name}]"
        yield from _toml(table, comments)


def _description(struct: type[Section], field: str) -> str:
    kind = next(f.type for f in msgspec.structs.fields(struct) if f.name == field)
    return next(
        (
            meta.description
            for meta in getattr(kind, "__metadata__", ())
            if isinstance(meta, Meta) and meta.description
        ),
        field,
    )


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A TOML basic string is a JSON string but for DEL, which TOML wants escaped too.
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return str(value)


__all__ = ["ARMS", "Config", "nearest", "parse_settings", "presets"]
