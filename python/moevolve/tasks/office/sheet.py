"""Sheets that cells are asked about: one list with a header, and changed copies of it."""

from __future__ import annotations

from random import Random

import msgspec

from moevolve.tasks.office.values import Value

COLUMNS = "ABCDE"
ANSWER = (8, 1)
"""The cell that the formula stands in: H1, beside the list."""
COPIES = (1.0, 0.3, 1.8, 0.6, 1.3)
"""Scales of the numbers in changed copies of a list, so that both outcomes of every threshold occur."""


class Theme(msgspec.Struct, frozen=True):
    """What a list is about: its key's name, two groups with their members, and names of two columns of numbers."""

    key: str
    groups: tuple[str, str]
    members: tuple[tuple[str, ...], tuple[str, ...]]
    counts: tuple[str, ...]
    amounts: tuple[str, ...]


THEMES = (
    Theme(
        "order",
        ("region", "product"),
        (
            ("North", "South", "East", "West", "Centre"),
            ("Bolts", "Cable", "Glue", "Lamps", "Nails", "Paint", "Rope"),
        ),
        ("units", "pieces", "boxes"),
        ("prices", "costs"),
    ),
    Theme(
        "badge",
        ("city", "team"),
        (
            ("Bergen", "Lyon", "Porto", "Turin", "Ghent"),
            ("Sales", "Support", "Design", "Legal", "Stores"),
        ),
        ("hours", "shifts", "days"),
        ("wages", "rates"),
    ),
    Theme(
        "trip",
        ("driver", "route"),
        (("Anna", "Bruno", "Clara", "David", "Elena"), ("Harbour", "Airport", "Valley", "Bridge", "Market")),
        ("stops", "riders", "miles"),
        ("fares", "tolls"),
    ),
    Theme(
        "plot",
        ("garden", "crop"),
        (("Upper", "Lower", "Sunny", "Shady"), ("Beans", "Carrots", "Leeks", "Onions", "Peas", "Squash")),
        ("seeds", "plants", "crates"),
        ("yields", "weights"),
    ),
)

Row = tuple[float, str, str, float, float]


class Sheet(msgspec.Struct, frozen=True):
    """A list with a header in row 1: a key, two groups, two numbers."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def last(self) -> int:
        """The number of its last row."""
        return len(self.rows) + 1

    @property
    def described(self) -> str:
        """Its columns, each of which is a range of its name, and where they lie."""
        return f"Named ranges: {', '.join(self.names)}; A to {COLUMNS[-1]}, rows 2 to {self.last}"

    def ranges(self) -> dict[str, tuple[tuple[int, int], tuple[int, int]]]:
        """Name -> the first and the last cell of a column."""
        return {name: ((at, 2), (at, self.last)) for at, name in enumerate(self.names, 1)}

    def cells(self) -> dict[tuple[int, int], Value]:
        """(column, row) -> value."""
        rows = (self.names, *self.rows)
        return {
            (column, row): value
            for row, values in enumerate(rows, 1)
            for column, value in enumerate(values, 1)
        }


def drawn(rng: Random) -> tuple[Sheet, Theme]:
    """A list of eight to thirty rows, and what it is about."""
    theme = rng.choice(THEMES)
    names = (theme.key, *theme.groups, rng.choice(theme.counts), rng.choice(theme.amounts))
    return Sheet(names, _rows(rng, theme, rng.randint(8, 30), 1.0)), theme


def changed(rng: Random, sheet: Sheet, theme: Theme) -> list[Sheet]:
    """Copies of a list with other keys, members and numbers, in as many rows."""
    return [Sheet(sheet.names, _rows(rng, theme, len(sheet.rows), scale)) for scale in COPIES]


def _rows(rng: Random, theme: Theme, count: int, scale: float) -> tuple[Row, ...]:
    keys = rng.sample(range(1000, 10_000), count)
    return tuple(
        (
            float(key),
            rng.choice(theme.members[0]),
            rng.choice(theme.members[1]),
            float(max(1, int(scale * rng.randint(1, 99)))),
            max(1, int(scale * rng.randint(20, 999))) / 10,
        )
        for key in keys
    )
