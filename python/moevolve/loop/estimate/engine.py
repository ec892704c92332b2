"""What a run will take, told before it starts: tokens and bytes by arithmetic, minutes by a short trial of speed.

An estimate is for the person who waits. Nothing in a run reads it, so the clock still decides nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.learning.training import refresh
from moevolve.loop import resolve
from moevolve.loop.arms import ARMS
from moevolve.loop.estimate.memory import available, check_memory, memory_of
from moevolve.loop.estimate.work import Lengths, Speed, lengths_of, question_tokens, work_of
from moevolve.models.engine import Engine
from moevolve.models.plan import Plan
from moevolve.models.prompts import Prompts
from moevolve.protocol.sampling import Sampling, TokenRequest
from moevolve.protocol.training import Example
from moevolve.randomness import key
from moevolve.tasks.suite import Suite

FILE = "estimate.json"
"""Beside `run.toml`: wall-clock figures have no place in the journal."""
TRIED = 24
"""Prompts of the trial of speed, and at most so many answers in its one step."""


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


def speed_of(engine: Engine, prompts: Prompts, config: Config, tasks: Suite) -> Speed:
    """Tries the model for some seconds, on train tasks; a copy takes the one step."""
    cells = [tasks.cells[index % len(tasks.cells)] for index in range(TRIED)]
    drawn = tasks.sample("train", cells, "estimate")
    asked = [question_tokens(engine, prompts, task) for task in drawn]

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
    plan = Plan.of(resolve.checkpoint(config))
    prompts, tasks = resolve.prompts(config, engine), resolve.suite(config)
    lengths = lengths_of(engine, prompts, tasks)
    memory = memory_of(config, engine, plan, lengths)
    check_memory(memory, available())
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
                f"cycle {cycle[0]:.1f} to {cycle[1]:.1f}; raise `minutes`, or lower `attempts.tasks`, `attempts.direct`, "
                f"`learn.steps`, `gate.max_n`, `gate.confirm_n` or `wording.shots`"
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
