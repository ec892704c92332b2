"""Bytes of a run at its peak, and what this machine has to give."""

from __future__ import annotations

from pathlib import Path

from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.loop import resolve
from moevolve.loop.arms import ARMS
from moevolve.loop.estimate.work import Lengths
from moevolve.models.cards import this_machine
from moevolve.models.engine import Engine
from moevolve.models.plan import Plan
from moevolve.rollouts.executors.local import COHORT

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
    sealed = len(resolve.suite(config).spread("sealed", config.suite.sealed_per_cell))
    most = min(COHORT, max(config.attempts.tasks, config.attempts.direct or 0, sealed))
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


def check_memory(memory: dict[str, int], there: int | None) -> None:
    needed = sum(memory.values())
    if there is not None and needed > there:
        largest = max(memory, key=lambda name: memory[name])
        raise UsageError(
            f"the run needs about {needed / 2**30:.1f} GiB of memory and this machine has {there / 2**30:.1f} GiB free; "
            f"most goes into {largest} ({memory[largest] / 2**30:.1f} GiB): take a smaller or quantised model, "
            f"`learn.method=lora`, or fewer `policy.threads`"
        )
