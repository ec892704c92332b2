"""The bytes that would cross between cards and machines, were a model split over them: ``python benches/partition.py``.

Nothing is measured: the figures follow from a model's shape and the way of splitting that docs/design.md describes.
Activations cross in bf16. The table has, for a token in one pass forward, what one card sends on average.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A decoder's widths."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    experts: int
    chosen: int
    heads: int
    key_heads: int
    head: int
    vocabulary: int

    @property
    def expert_parameters(self) -> int:
        """Parameters in experts."""
        return self.layers * self.experts * 3 * self.hidden * self.intermediate

    @property
    def other_parameters(self) -> int:
        """Parameters of attention, routers, embedding and head; norms are left out."""
        attention = self.hidden * self.head * (2 * self.heads + 2 * self.key_heads)
        router = self.hidden * self.experts
        return self.layers * (attention + router) + 2 * self.vocabulary * self.hidden


SHAPES = [
    Shape("Qwen3-30B-A3B", 48, 2048, 768, 128, 8, 32, 4, 128, 151_936),
    Shape("MiniMax-M2", 62, 3072, 1536, 256, 8, 48, 8, 128, 200_064),
]
BF16 = 2
F32 = 4


def cards_met(cards: int, chosen: int) -> float:
    """Other cards that a token's experts lie on, on average, were experts chosen independently."""
    return (cards - 1) * (1 - (1 - 1 / cards) ** chosen)


def rows(shape: Shape, cards: int) -> list[tuple[str, float]]:
    """What crosses for one token and one layer, and what a card holds."""
    row = shape.hidden * BF16
    there = cards_met(cards, shape.chosen) * row
    copies = shape.chosen * (cards - 1) / cards * row
    # A ring's all-reduce sends 2 (n - 1) / n of the row from each card.
    reduce = 2 * (cards - 1) / cards * row
    other = shape.other_parameters * BF16
    return [
        ("experts: a row to each other card that has one of the token's experts", there),
        ("experts: back, one row a copy, added up in the order of the choice", copies),
        ("experts: back, one sum a card", there),
        ("attention by heads: one all-reduce of its output", reduce),
        ("layers over machines: a row to the next machine, once for all its layers", row),
        ("weights of a card: its experts", shape.expert_parameters * BF16 / cards),
        ("weights of a card: the rest, whole", other),
        ("weights of a card: the rest, by heads and vocabulary", other / cards),
        (
            "training: all-reduce of the rest's gradients in f32, a step",
            2 * (cards - 1) / cards * shape.other_parameters * F32,
        ),
    ]


def main() -> None:
    """Prints one table a shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cards", type=int, nargs="+", default=[2, 4, 8])
    cards: list[int] = parser.parse_args().cards
    for shape in SHAPES:
        total = (shape.expert_parameters + shape.other_parameters) / 1e9
        print(
            f"{shape.name}: {total:.1f} billion parameters, {shape.layers} layers, rows of {shape.hidden * BF16} bytes"
        )
        print(f"  {'cards':<76}" + "".join(f"{n:>12}" for n in cards))
        columns = [rows(shape, n) for n in cards]
        for i, (what, _) in enumerate(columns[0]):
            print(f"  {what:<76}" + "".join(f"{size(column[i][1]):>12}" for column in columns))


def size(bytes_: float) -> str:
    """Bytes in a unit that keeps them short."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= factor:
            return f"{bytes_ / factor:.1f} {unit}"
    return f"{bytes_:.0f} B"


if __name__ == "__main__":
    main()
