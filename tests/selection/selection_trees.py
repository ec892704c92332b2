"""Trees for the tests of selection policies."""

from __future__ import annotations

from hypothesis import strategies as st

from moevolve.selection.policy import Draw
from moevolve.selection.tree import Node, Tree

INSTANCES = ("a", "b", "c")


def tree(*rows: tuple[str, str | None, float | None], champion: str | None = None) -> Tree:
    return Tree([Node(id=id, parent=parent, score=score) for id, parent, score in rows], champion)


def at(index: int) -> Draw:
    return Draw(seed=7, cycle=1, stage="parent", index=index)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Up to a dozen nodes, some closed, some without scores; the first one is open."""
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 12))):
        nodes.append(
            Node(
                id=f"n{number}",
                parent=f"n{draw(st.integers(0, number - 1))}" if number else None,
                score=draw(st.none() | st.floats(0, 1)),
                wins=draw(st.integers(0, 40)),
                losses=draw(st.integers(0, 40)),
                scores={
                    name: draw(st.sampled_from((0.0, 0.25, 0.5, 1.0)))
                    for name in draw(st.sets(st.sampled_from(INSTANCES)))
                },
                features={"size": draw(st.floats(0, 100))},
                step=draw(st.integers(0, 30)) if number else None,
                open=number == 0 or draw(st.integers(0, 3)) > 0,
            )
        )
    champion = draw(st.none() | st.sampled_from([node.id for node in nodes]))
    return Tree(nodes, champion, draw(st.integers(0, 40)))
