"""Says what a model weighs and where it fits, from its config.json or its GGUF header alone: nothing else is read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moevolve.cli import output
from moevolve.errors import UsageError

if TYPE_CHECKING:
    from moevolve.models.cards import Card
    from moevolve.models.plan import Plan

CONTEXT = 4096
SHOWN = ("stored", "bf16", "fp8", "q8_0", "q6_k", "q5_k", "q4_k")
"""Formats that the table of cards has columns for."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="a config.json, a folder with one, a .gguf file, or a run, whose champion is planned",
    )
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help=f"tokens that a sequence must have room for (default: {CONTEXT}, or all the model takes)",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="sequences at once (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def execute(options: argparse.Namespace) -> int:
    from moevolve.journal.store import is_run
    from moevolve.models.cards import CARDS, this_machine
    from moevolve.models.champions import model_of
    from moevolve.models.engine import Engine
    from moevolve.models.plan import Plan

    plan = Plan.of(model_of(options.model, Engine) if is_run(options.model) else options.model)
    context = min(CONTEXT, plan.positions or CONTEXT) if options.context is None else options.context
    if context < 1 or options.batch < 1:
        raise UsageError("--context and --batch are at least 1")
    if plan.positions is not None and context > plan.positions:
        raise UsageError(f"--context {context}: this model takes {plan.positions} tokens at most")
    here = this_machine()
    cards = ((here,) if here else ()) + tuple(sorted(CARDS, key=lambda card: card.memory))
    if options.json:
        output.data(_figures(plan, cards, context, options.batch))
        return 0
    for line in [
        *_sizes(plan, options.model, context, options.batch),
        "",
        *_table(plan, cards, context, options.batch),
    ]:
        print(line)
    return 0


def _figures(plan: Plan, cards: tuple[Card, ...], context: int, batch: int) -> dict[str, Any]:
    import msgspec

    def fit(card: Card) -> dict[str, Any]:
        rooms = {name: plan.room(name, card.memory, batch) for name in plan.weights}
        return {
            "name": card.name,
            "memory": card.memory,
            "longest_context": rooms,
            "fits": [name for name, room in rooms.items() if room >= context],
        }

    return {
        **msgspec.to_builtins(plan),
        "context": context,
        "batch": batch,
        "kv_bytes": plan.kv_bytes_per_token * context * batch,
        "memories": [fit(card) for card in cards],
    }


def _sizes(plan: Plan, model: Path, context: int, batch: int) -> list[str]:
    experts = f"{plan.chosen} of {plan.experts} experts" if plan.experts > 1 else "dense"
    lines = [
        f"{model}: {plan.model_type}, {plan.layers} layers of width {plan.hidden}, {experts}, "
        f"{plan.heads} heads ({plan.key_heads} of keys) of {plan.head}, {plan.vocabulary:,} tokens",
        "",
        f"parameters        {_count(plan.parameters)}",
        f"active per token  {_count(plan.active)}, or {_count(plan.active_without_vocabulary)} "
        "without the vocabulary matrices",
        f"KV cache          {plan.kv_bytes_per_token:,} bytes per token in bf16; "
        f"{_bytes(plan.kv_bytes_per_token * context * batch)} for {batch} x {context:,} tokens"
        + (f"; the model takes {plan.positions:,}" if plan.positions else ""),
        "",
        f"{'part':<12} {'parameters':>12} {'per token':>12}",
    ]
    lines += [f"{p.name:<12} {_count(p.parameters):>12} {_count(p.active):>12}" for p in plan.parts]
    lines += ["", f"{'format':<12} {'weights':>12} {'bits each':>12}"]
    for name, size in plan.weights.items():
        label = "as stored" if name == "stored" else name
        lines.append(f"{label:<12} {_bytes(size):>12} {8 * size / plan.parameters:>12.2f}")
    if plan.obstacle is not None:
        lines += ["", f"these are figures alone: loading refuses it ({plan.obstacle})"]
    return lines


def _table(plan: Plan, cards: tuple[Card, ...], context: int, batch: int) -> list[str]:
    """Rooms by memory and format; cards of one memory share a row."""
    from moevolve.models.plan import RESERVED

    formats = [name for name in SHOWN if name in plan.weights]
    rows: dict[int, list[str]] = {}
    for card in cards:
        rows.setdefault(card.memory, []).append(card.name)
    each = "" if batch == 1 else f" of each of {batch} sequences"
    lines = [
        f"Longest context{each} beside the weights, {RESERVED:.0%} of the memory left free "
        f"(-: less than {context:,} tokens, or not even the weights)",
        f"{'memory':>9}  " + "".join(f"{name:>9}" for name in formats),
    ]
    for memory, names in rows.items():
        rooms = [plan.room(name, memory, batch) for name in formats]
        shown = "".join(f"{room:>9,}" if room >= context else f"{'-':>9}" for room in rooms)
        lines.append(f"{memory / (1 << 30):>5.0f} GiB  {shown}  {', '.join(names)}")
    return lines


def _count(number: int) -> str:
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:,}"


def _bytes(number: int) -> str:
    """Decimal, as files are sized; memories are told in GiB."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1000:.1f} kB"
