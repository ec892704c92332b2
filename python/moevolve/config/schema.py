"""The tables of a run's configuration: a field's type, range and meaning stand in its annotation.

Reader, writer and `init` use nothing else. One file above 400 lines: whoever looks for a key reads the tables side by side.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from moevolve.records import Recipe

Rate = Annotated[float, Meta(gt=0.0, le=1.0)]
LevelNumber = Annotated[int, Meta(ge=1, le=64)]
Shared = tuple[int, int]
"""Train tasks: direct, and through the program."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a table of the file."""


class SuiteSection(Section, frozen=True):
    name: Annotated[
        str,
        Meta(
            description="Which suite of tasks; user: skills that the calling program defines, or a skills.py here",
            min_length=1,
        ),
    ] = "primer"
    path: Annotated[
        str | None,
        Meta(
            description="A folder with tasks.jsonl or a Python file with @mv.skill, in place of `name`; copied into the run"
        ),
    ] = None
    digest: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{32}$")] | None,
        Meta(description="Content hash of what `path` leads to; a run fills it in and holds to it"),
    ] = None
    skills: Annotated[
        tuple[str, ...], Meta(description="Skills that the run works on; left empty: all of the suite")
    ] = ()
    levels: Annotated[
        tuple[LevelNumber, LevelNumber], Meta(description="Lowest and highest level that the run works on")
    ] = (1, 16)
    sealed_per_cell: Annotated[
        int,
        Meta(
            description="Sealed tasks per (skill, level), for the score before and after; listed tasks all count",
            ge=1,
            le=1000,
        ),
    ] = 8
    dev_per_cell: Annotated[
        int,
        Meta(
            description="Dev tasks per (skill, level), for the curve, once a cycle; listed tasks all count",
            ge=1,
            le=1000,
        ),
    ] = 2

    def __post_init__(self) -> None:
        if self.levels[0] > self.levels[1]:
            raise ValueError(f"levels must be [lowest, highest], not {list(self.levels)}")
        if len(set(self.skills)) < len(self.skills):
            raise ValueError("skills must each be named once")


class AgentSection(Section, frozen=True):
    name: Annotated[
        Literal["agent", "tool-agent", "cell-agent"] | None,
        Meta(
            description="An agent that ships, in place of `path`: one that asks, one that calls tools, or one that "
            "writes formulas with what memory has; left out: the seed"
        ),
    ] = None
    path: Annotated[
        str | None,
        Meta(
            description="A folder with an agent that the program starts as; left out: the seed; copied into the run"
        ),
    ] = None
    digest: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None,
        Meta(description="Content hash of the agent; a run fills it in and holds to it"),
    ] = None


class ToolsSection(Section, frozen=True):
    path: Annotated[
        str | None,
        Meta(
            description="A Python file with functions that agents may call, beside the suite's tools; copied into the run"
        ),
    ] = None
    digest: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{32}$")] | None,
        Meta(description="Content hash of that file; a run fills it in and holds to it"),
    ] = None


class PolicySection(Section, frozen=True):
    checkpoint: Annotated[
        str | None,
        Meta(
            description="A checkpoint's folder (Hugging Face layout), a GGUF file, or a run, whose champion's weights are "
            "copied into the run; left out: the shipped seed"
        ),
    ] = None
    digest: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None,
        Meta(
            description="Content hash of a checkpoint that the run keeps; a run fills it in and holds to it"
        ),
    ] = None
    threads: Annotated[int, Meta(description="Threads of the engine; 0 takes every core", ge=0, le=1024)] = 0
    device: Annotated[
        Annotated[str, Meta(pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$")],
        Meta(
            description="What computes: cpu, cuda:N, or auto, the first card that can be used, else the CPU"
        ),
    ] = "cpu"
    precision: Annotated[
        Literal["auto", "f32", "bf16"],
        Meta(
            description="What products round their operands to; auto: bf16 where the CPU multiplies it faster"
        ),
    ] = "auto"
    max_tokens: Annotated[
        int, Meta(description="Most tokens of a completion; roles may set their own", ge=1, le=4096)
    ] = 24
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
        if self.checkpoint is not None or self.digest is not None:
            raise ValueError("either `checkpoint` or `endpoint` answers, not both")
        if self.device != "cpu":
            raise ValueError("an endpoint computes on devices of its own: leave `device` out")
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
    extensions: Annotated[
        tuple[Literal["top_k", "min_p", "repetition_penalty", "reasoning_content"], ...],
        Meta(
            description="Fields beyond OpenAI's interface that the server takes; programs may use them then"
        ),
    ] = ()
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
    outage: Annotated[
        Annotated[float, Meta(gt=0.0, le=604_800.0)] | None,
        Meta(
            description="Seconds in which calls fail and none is answered that end the run; left out: 600, or twice "
            "`timeout` where that is more"
        ),
    ] = None
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

    @property
    def patience(self) -> float:
        """Seconds without any answer that end the run."""
        return max(600.0, 2 * self.timeout) if self.outage is None else self.outage

    def __post_init__(self) -> None:
        if (self.price_input is None) != (self.price_output is None):
            raise ValueError("give `price_input` and `price_output`, or neither")
        if self.most_cost is not None and self.price_input is None and self.prices is None:
            raise ValueError("`most_cost` needs prices: give `prices`, or `price_input` and `price_output`")


class WordingSection(Section, frozen=True):
    style: Annotated[
        Literal["auto", "bare", "plain", "chat"],
        Meta(
            description="How a model is asked: by the suite's bare texts; plain, each prompt a message as it is, the whole "
            "reply its answer; or chat, in a wording for terse suites, one line its answer. auto: bare without a chat "
            "template, else chat for the primer, plain for a suite of one's own"
        ),
    ] = "auto"
    shots: Annotated[
        int, Meta(description="With chat: solved train tasks shown before the question", ge=0, le=64)
    ] = 2
    spell: Annotated[bool, Meta(description="With chat: write the letters of a payload apart")] = True


AGAIN = 4
"""Further attempts at a task that the bare policy failed."""


class AttemptsSection(Section, frozen=True):
    tasks: Annotated[
        int, Meta(description="Train tasks a cycle, direct and through the program", ge=1, le=10**6)
    ] = 768
    samples: Annotated[
        int,
        Meta(description="Direct attempts per task; an agent's too where learn.loss is no sft", ge=1, le=256),
    ] = 4
    direct: Annotated[
        Annotated[int, Meta(ge=1, le=10**6)] | None,
        Meta(
            description="Train tasks a cycle that the bare policy attempts where it learns; left out: what the recipe's "
            "program share leaves of `tasks`"
        ),
    ] = None
    again: Annotated[
        int,
        Meta(
            description="Most further attempts a cycle by the bare policy, where it learns from confirmed answers, at tasks "
            "that it failed: four at each, drawn by what can be learned from them",
            ge=0,
            le=10**6,
            multiple_of=AGAIN,
        ),
    ] = 0

    @property
    def tried_again(self) -> int:
        """Most failed tasks of a cycle that the bare policy attempts again."""
        return self.again // AGAIN

    def shared(self, program_share: float | None, growth: float) -> tuple[Shared, Shared]:
        """Train tasks of a cycle that were there from the start, and those that grew, each as (direct, through the program).

        Args:
            program_share: of a recipe; None where nothing is learnt, and all go through the program.
            growth: share of what grew; 0 where nothing did.
        """
        grown = round(self.tasks * growth)
        both = [self.tasks - grown, grown]
        if program_share is None:
            return (0, both[0]), (0, both[1])
        direct = [round(tasks * (1 - program_share)) for tasks in both]
        through = [tasks - bare for tasks, bare in zip(both, direct, strict=True)]
        if self.direct is not None:
            grown = round(self.direct * growth)
            direct = [self.direct - grown, grown]
        return (direct[0], through[0]), (direct[1], through[1])


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
            description="sft: confirmed answers by cross-entropy; the others: this cycle's attempts, right and wrong"
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
        float,
        Meta(description="Bound on the probability that a run ever makes a false promotion", gt=0.0, lt=1.0),
    ] = 0.05
    margin: Annotated[
        float,
        Meta(
            description="Loss of a skill against its best confirmed level that is excluded before a promotion",
            ge=0.0,
            lt=1.0,
        ),
    ] = 0.05
    skill_alpha: Annotated[
        float,
        Meta(description="Error rate, for each skill, of calling it unharmed in a decision", gt=0.0, lt=1.0),
    ] = 0.01
    min_n: Annotated[int, Meta(description="Least paired tasks before a promotion", ge=1, le=10**6)] = 192
    max_n: Annotated[int, Meta(description="Most paired tasks to show a gain with", ge=1, le=10**6)] = 3072
    confirm_n: Annotated[
        int,
        Meta(description="Most further ones to show every skill unharmed, once a gain is", ge=0, le=10**6),
    ] = 6144
    batch: Annotated[int, Meta(description="Paired tasks between two looks", ge=1, le=10**5)] = 96

    def __post_init__(self) -> None:
        if self.min_n > self.max_n:
            raise ValueError(f"min_n must be at most max_n, but {self.min_n} > {self.max_n}")


Policy = Literal[
    "dgm",
    "dgm-h-paper",
    "dgm-h-code",
    "hgm",
    "shinka",
    "gepa-pareto",
    "map-elites-islands",
    "best",
    "random",
    "genome",
]


class SelectionSection(Section, frozen=True):
    policy: Annotated[
        Policy,
        Meta(
            description="Which variant is changed next: dgm, dgm-h-paper, dgm-h-code and shinka draw good ones more often "
            "and much-used ones less; hgm looks at whole clades, gepa-pareto at the best of each skill, map-elites-islands "
            "keeps a grid on each of five islands; best takes the champion, random any; genome asks the program's own "
            "select_parent.py"
        ),
    ] = "dgm"


class EvolveSection(Section, frozen=True):
    proposers: Annotated[
        tuple[Literal["improver", "operators", "model", "command"], ...],
        Meta(
            description="Who proposes programs, several at once under a bandit: improver is the parent's own improve.py, "
            "operators edits of any agent's prompts, parameters and structure, model a language model, command a program "
            "of one's own ([proposer]); left empty: improver, or operators where the agent is one's own"
        ),
    ] = ()
    candidates: Annotated[
        int, Meta(description="Programs that an improver proposes at once", ge=1, le=1000)
    ] = 8
    screen: Annotated[int, Meta(description="Train tasks that screen a proposal", ge=1, le=10**5)] = 192
    margin: Annotated[
        float,
        Meta(description="Lead on the screening tasks that takes a proposal to the gate", ge=0.0, lt=1.0),
    ] = 0.0
    generations: Annotated[
        int, Meta(description="Rounds of proposals a cycle; 0: programs stay as they are", ge=0, le=1000)
    ] = 1
    nulls: Annotated[
        Literal["auto", "on", "off"],
        Meta(
            description="At the end, score the bare policy at the champion's budget (self-consistency, best-of-N) on dev "
            "tasks; auto: where no server charges for it"
        ),
    ] = "auto"
    patience: Annotated[
        int,
        Meta(
            description="Cycles without a promotion after which arm `alternate` turns to the other level",
            ge=1,
            le=1000,
        ),
    ] = 1


class ProposerSettings(Section, frozen=True):
    """Who writes edits where `evolve.proposers` names `model` or `command`."""

    endpoint: Annotated[
        str | None,
        Meta(
            description="Base address of the OpenAI-compatible server whose model writes edits; left out: the policy"
        ),
    ] = None
    model: Annotated[
        Annotated[str, Meta(min_length=1)] | None, Meta(description="That server's name of the model")
    ] = None
    key_env: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")] | None,
        Meta(description="Environment variable that holds that server's key; never the key itself"),
    ] = None
    server: EndpointSection = EndpointSection()
    command: Annotated[
        tuple[str, ...],
        Meta(
            description="A command that reads the brief as JSON and writes candidates as JSON; it has your rights"
        ),
    ] = ()
    seconds: Annotated[
        float, Meta(description="Most seconds of one call of the command", gt=0.0, le=86_400.0)
    ] = 300.0

    def __post_init__(self) -> None:
        if self.endpoint is None:
            if self.model is not None or self.key_env is not None or self.server != EndpointSection():
                raise ValueError("model, key_env and server belong to an endpoint: give `endpoint` too")
        else:
            # The same address rules as the policy's.
            PolicySection(endpoint=self.endpoint, model=self.model, key_env=self.key_env)


Isolation = Literal["batch", "attempt"]


class SandboxSection(Section, frozen=True):
    strict: Annotated[bool, Meta(description="Refuse to run where a layer of the sandbox is missing")] = False
    memory_mb: Annotated[
        int, Meta(description="Address space of a program's process, MiB", ge=64, le=10**6)
    ] = 512
    check_seconds: Annotated[
        float, Meta(description="Processor time of a suite's own check on one answer, seconds", gt=0, le=3600)
    ] = 5.0
    isolation: Annotated[
        Isolation,
        Meta(
            description="What a process holds: `batch`, attempts that trust each other, since they can read and change one "
            "another; `attempt`, one attempt each, forked from a warm interpreter"
        ),
    ] = "batch"
