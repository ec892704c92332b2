"""The shape of the skill tree: leaves own tasks, inner nodes aggregate their children."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec


class Node(msgspec.Struct, frozen=True):
    """A node: `path` is "" at the root, `text` at a branch, `text/reverse` at a leaf."""

    path: str
    children: tuple[Node, ...] = ()

    @property
    def name(self) -> str:
        """The last word of the path."""
        return self.path.rpartition("/")[2]

    @property
    def leaf(self) -> bool:
        return not self.children

    def leaves(self) -> list[str]:
        """Paths of the leaves under this node, in order."""
        return [node.path for _, node in self.walk() if node.leaf]

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Node]]:
        """(depth, node) from here down, parents before their children."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


def grow(paths: Iterable[str]) -> Node:
    """The tree of these leaves; children in alphabetical order."""
    return _node("", sorted(set(paths)))


def _node(path: str, leaves: list[str]) -> Node:
    if leaves == [path]:
        return Node(path)
    start = len(path) + 1 if path else 0
    below: dict[str, list[str]] = {}
    for leaf in leaves:
        end = leaf.find("/", start)
        below.setdefault(leaf if end < 0 else leaf[:end], []).append(leaf)
    return Node(path, tuple(_node(child, inside) for child, inside in below.items()))
