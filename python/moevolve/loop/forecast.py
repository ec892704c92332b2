"""What a run will take, told before it starts: tokens and bytes by arithmetic, minutes by a short trial of speed.

An estimate is for the person who waits. Nothing in a run reads it, so the clock still decides nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from moevolve.agents.host import RECIPE_BOUNDS
from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.learning.training import refresh
from moevolve.loop import model
from moevolve.loop.arms import ARMS
from moevolve.models.cards import this_machine
from moevolve.models.engine import Engine
from moevolve.models.plan import Plan
from moevolve.models.prompts import Prompts
from moevolve.protocol.sampling import Sampling, TokenRequest
from moevolve.protocol.training import Example
from moevolve.randomness import key
from moevolve.records import Recipe
from moevolve.rollouts.executors.local import COHORT
from moevolve.tasks.suite import Suite

FILE = "estimate.json"
"""Beside `run.toml`: wall-clock figures have no place in the journal."""

INTERPRETER = 160 << 20
"""Python, its modules, the store's map and the sandboxed process."""
LOADED = 3
"""Sets of weights at one time: the champion's, the candidate's, and the ones in training."""
PAIRED = 2
"""Engines of a comparison: each keeps the buffers that it read and drew with."""
DECODED, READ = 64, 1024
"""Samples and prompt tokens that a thread of the engine works on at one time."""
APART = 32
"""Tokens by which prompts differ, and whose keys and values are kept through a round all the same."""
LEARNED = 2 * 640
"""Tokens of a step whose activations are held at one time, unless one answer is longer."""
KEPT = 0.15
"""Share of all that is freed but not given back, or lost between blocks."""
TRIED = 24
"""Prompts of the trial of speed, and at most so many answers in its one step."""
ASKED = 1.5
"""Requests of a program's attempt, on average over what an improver proposes."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a part of a run."""

    read: float = 0.0
    """Of prompts."""
    drawn: float = 0.0
    trained: float = 0.0
    """Of training sequences, their prompts included."""

    def __add__(self, other: Work) -> Work:
        return Work(
            read=self.read + other.read,
            drawn=self.drawn + other.drawn,
            trained=self.trained + other.trained,
        )

    def __mul__(self, times: float) -> Work:
        return Work(read=self.read * times, drawn=self.drawn * times, trained=self.trained * times)


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens a second, each kind alone."""

    read: float
    drawn: float
    trained: float

    def seconds(self, work: Work) -> float:
        """How long some work takes."""
        return work.read / self.read + work.drawn / self.drawn + work.trained / self.trained


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a prompt and of its answer, mean and most, over train tasks of every (skill, level)."""

    prompt: float
    answer: float
    longest: int


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a run will take."""

    minutes: tuple[float, float]
    """Where every gate decides as early as it may, and where none does before its last task."""
    cycle_minutes: tuple[float, float]
    cycles: int
    """As many as are wanted, or as fit in the time limit at the longer estimate."""
    memory: dict[str, int]
    """Bytes by what they hold, at the peak."""
    speed: Speed
    lengths: Lengths

    @property
    def bytes(self) -> int:
        """Bytes in all."""
        return sum(self.memory.values())

    def sentence(self) -> str:
        """The estimate in words."""
        low, high = self.minutes
        return (
            f"Estimated: {self.cycles} cycle{'s' * (self.cycles != 1)} in {low:.0f} to {high:.0f} minutes, "
            f"{self.bytes / 2**30:.1f} GiB of memory at the peak "
            f"(reading {self.speed.read:,.0f}, drawing {self.speed.drawn:,.0f}, "
            f"training {self.speed.trained:,.0f} tokens a second; prompts of {self.lengths.prompt:.0f} tokens)"
        )


def lengths_of(config: Config, prompts: Prompts, tasks: Suite) -> Lengths:
    """Lengths in the model's tokens, over one train task of each (skill, level)."""
    low, high = config.suite.levels
    asked, said = [], []
    for path in tasks.skills:
        for level in range(low, high + 1):
            task = tasks.draw("train", path, level, "lengths")
            asked.append(len(prompts.ask(task.prompt)))
            said.append(len(prompts.say(task.answer or "")))
    return Lengths(
        prompt=sum(asked) / len(asked),
        answer=sum(said) / len(said),
        longest=max(a + b for a, b in zip(asked, said, strict=True)),
    )


def work_of(config: Config, lengths: Lengths, tasks: Suite) -> tuple[Work, tuple[Work, Work]]:
    """Tokens of both sealed scores, and of a cycle, least and most."""
    arm, attempts, gate, search = ARMS[config.arm], config.attempts, config.gate, config.evolve
    low, high = config.suite.levels
    cells = len(tasks.skills) * (high - low + 1)

    def asked(requests: float, samples: float = 1.0) -> Work:
        return Work(read=requests * lengths.prompt, drawn=requests * samples * lengths.answer)

    share = Recipe().program_share if arm.learns else 1.0
    cycle = asked(attempts.tasks * (1 - share), attempts.samples) + asked(attempts.tasks * share * ASKED)
    cycle += asked(cells * config.suite.dev_per_cell * ASKED)
    gates = 0
    if arm.learns:
        steps = min(RECIPE_BOUNDS["steps"][1], config.learn.steps)
        batch = min(RECIPE_BOUNDS["batch"][1], config.learn.batch)
        cycle += Work(trained=steps * batch * (lengths.prompt + lengths.answer))
        gates += 1
    if arm.searches:
        cycle += asked(
            search.generations
            * (config.roles.improver.requests + (1 + search.candidates) * search.screen * ASKED)
        )
        gates += search.generations
    least, most = (cycle + asked(2 * gates * n * ASKED) for n in (gate.min_n, gate.max_n + gate.confirm_n))
    return asked(2 * cells * config.suite.sealed_per_cell * ASKED), (least, most)


def memory_of(config: Config, engine: Engine, plan: Plan, lengths: Lengths) -> dict[str, int]:
    """Bytes at the peak, by what they hold."""
    threads = engine.threads
    adapted = engine.adapter is not None
    own = engine.adapter["parameters"] if engine.adapter is not None else plan.parameters
    base = (plan.stored_bytes or 8 * plan.parameters) if adapted else 8 * plan.parameters
    inner = 3 * max(
        (
            part.active / (3 * plan.hidden * plan.layers)
            for part in plan.parts
            if part.name in ("mlp", "experts")
        ),
        default=0.0,
    )
    # Per token and layer: states around both blocks, queries and keys twice, attention's weights, the block's inside.
    held = 6 * plan.hidden + (4 * plan.heads + 4 * plan.key_heads) * plan.head
    held += plan.heads * lengths.longest + int(2 * inner)
    context = lengths.longest + config.policy.max_tokens
    learned = max(LEARNED, 2 * lengths.longest)
    low, high = config.suite.levels
    sealed = len(model.tasks(config).skills) * (high - low + 1) * config.suite.sealed_per_cell
    most = min(COHORT, max(config.attempts.tasks, sealed))
    parts = {
        "base weights": base if adapted else 0,
        "weights that train, and copies": 8 * own * (LOADED + adapted),
        # Twice the plan's bf16: the engine keeps them in f32.
        "keys and values": (threads * DECODED * context + most * APART) * 2 * plan.kv_bytes_per_token,
        "reading and drawing": PAIRED
        * threads
        * 4
        * (READ * (held + 2 * plan.hidden) + 2 * DECODED * plan.vocabulary),
        "training": 4 * own * 5 + 4 * learned * (held * plan.layers) if ARMS[config.arm].learns else 0,
        "interpreter": INTERPRETER,
    }
    return parts | {"what the allocator keeps": int(KEPT * sum(parts.values()))}


def speed_of(engine: Engine, prompts: Prompts, config: Config, tasks: Suite) -> Speed:
    """Tries the model for some seconds, on train tasks; a copy takes the one step."""
    low, high = config.suite.levels
    cells = [(path, level) for path in sorted(tasks.skills) for level in range(low, high + 1)]
    cells = [cells[index % len(cells)] for index in range(TRIED)]
    drawn = tasks.sample("train", cells, "estimate")
    asked = [prompts.ask(task.prompt) for task in drawn]

    def generate(most: int) -> tuple[float, int]:
        began = time.perf_counter()
        sampling, keys = Sampling(max_tokens=most), [key("estimate", most)]
        samples = engine.complete([TokenRequest(ids, sampling, keys) for ids in asked])
        tokens = sum(len(each.tokens) for each in samples)
        return time.perf_counter() - began, tokens

    generate(1)  # The first call also maps the file and makes the buffers.
    reading, _ = generate(1)
    both, tokens = generate(config.policy.max_tokens)
    read = sum(map(len, asked))
    trained = read / max(reading, 1e-9)
    if ARMS[config.arm].learns:
        copy = engine.clone()
        refresh(copy)
        batch = [
            Example(tokens=ids + prompts.say(task.answer or ""), start=len(ids))
            for ids, task in zip(asked, drawn, strict=True)
        ]
        batch = batch[: config.learn.batch]
        began = time.perf_counter()
        copy.train(batch, config.learn.learning_rate[0])
        trained = sum(len(example.tokens) for example in batch) / (time.perf_counter() - began)
    return Speed(read=read / reading, drawn=tokens / max(both - reading, 1e-3), trained=trained)


def estimate(config: Config, engine: Engine) -> Estimate:
    """Estimates a run that has not begun.

    Args:
        config: the settled configuration.
        engine: the loaded model, with its adapter where it gets one.

    Raises:
        UsageError: the run does not fit in this machine's memory, or not one cycle in its time.
    """
    plan = Plan.of(model.checkpoint(config))
    prompts, tasks = model.prompts(config, engine), model.tasks(config)
    lengths = lengths_of(config, prompts, tasks)
    memory = memory_of(config, engine, plan, lengths)
    _check_memory(memory, available())
    speed = speed_of(engine, prompts, config, tasks)
    ends, (least, most) = work_of(config, lengths, tasks)
    cycle = (speed.seconds(least) / 60, speed.seconds(most) / 60)
    scores = speed.seconds(ends) / 60
    cycles = config.cycles
    if config.minutes is not None:
        fit = int((config.minutes - scores) / max(cycle[0], 1e-9))
        if fit < 1 and cycles != 0:
            raise UsageError(
                f"not one cycle fits in {config.minutes:g} minutes: both sealed scores take about {scores:.1f} and a "
                f"cycle {cycle[0]:.1f} to {cycle[1]:.1f}; raise `minutes`, or lower `attempts.tasks`, `learn.steps`, "
                f"`gate.max_n`, `gate.confirm_n` or `wording.shots`"
            )
        cycles = fit if cycles is None else min(cycles, fit)
    return Estimate(
        minutes=(
            scores + (cycles or 0) * cycle[0],
            min(scores + (cycles or 0) * cycle[1], config.minutes or float("inf")),
        ),
        cycle_minutes=cycle,
        cycles=cycles or 0,
        memory=memory,
        speed=speed,
        lengths=lengths,
    )


def available() -> int | None:
    """Bytes that this machine can give now; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    told = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    if (card := this_machine()) is not None:
        told.append(card.memory)
    return min(told, default=None)


def _check_memory(memory: dict[str, int], there: int | None) -> None:
    needed = sum(memory.values())
    if there is not None and needed > there:
        largest = max(memory, key=lambda name: memory[name])
        raise UsageError(
            f"the run needs about {needed / 2**30:.1f} GiB of memory and this machine has {there / 2**30:.1f} GiB free; "
            f"most goes into {largest} ({memory[largest] / 2**30:.1f} GiB): take a smaller or quantised model, "
            f"`learn.method=lora`, or fewer `policy.threads`"
        )


def save(estimate: Estimate, run: Path) -> None:
    """Puts an estimate beside the run's configuration."""
    partial = run / f".{FILE}.partial"
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(estimate), indent=2))
    partial.replace(run / FILE)


def load(run: Path) -> Estimate | None:
    """A run's estimate, where one was made."""
    try:
        return msgspec.json.decode((run / FILE).read_bytes(), type=Estimate)
    except FileNotFoundError:
        return None
