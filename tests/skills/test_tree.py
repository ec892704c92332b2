"""The skill tree's shape."""

from hypothesis import given
from hypothesis import strategies as st

from moevolve.skills.tree import grow

words = st.text("abc", min_size=1, max_size=2)
leaves = st.sets(st.tuples(words, words, words).map("/".join), min_size=1, max_size=12)


@given(leaves)
def test_leaves_come_back_sorted_and_parents_before_children(paths: set[str]) -> None:
    root = grow(paths)
    assert root.leaves() == sorted(paths)
    seen: set[str] = set()
    for depth, node in root.walk():
        assert depth == (node.path.count("/") + 1 if node.path else 0)
        parent = node.path.rpartition("/")[0]
        assert not node.path or parent in seen
        seen.add(node.path)


def test_names_and_leaves() -> None:
    root = grow(["text/reverse", "text/sort", "number/add"])
    assert [node.path for node in root.children] == ["number", "text"]
    assert [node.name for _, node in root.walk()] == ["", "number", "add", "text", "reverse", "sort"]
    assert [node.path for _, node in root.walk() if node.leaf] == ["number/add", "text/reverse", "text/sort"]
