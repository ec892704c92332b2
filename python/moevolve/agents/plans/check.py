"""The checker: types an expression, so that what it answers is made of whole words of the policy and of nothing else.

Every text has a kind, the set of what its characters may come from: the task, constants, memory, the policy. A plan is
accepted if its answer comes from the policy alone. A cutter must be one that the suite grants, at no less than its least
size; slices are for the policy's words; `verify` must ask the policy on the way back, or it would compare texts by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from moevolve.agents.plans.expression import (
    Ask,
    Backwards,
    Binding,
    Concat,
    Cut,
    Each,
    Fold,
    Join,
    Lessons,
    Literal,
    Operand,
    Parts,
    Payload,
    PlanError,
    Prompt,
    Retry,
    Slice,
    Text,
    Variable,
    Verify,
    Vote,
    Window,
)
from moevolve.tasks.cutters import Cutter

Kind = frozenset[str]
TASK, CONSTANT, MEMORY, POLICY = (frozenset([name]) for name in ("task", "constant", "memory", "policy"))
MOST_DEPTH = 40
MOST_NODES = 2000


def check(plan: Text, cutters: Mapping[str, Cutter]) -> None:
    """Accepts a plan, or says why not.

    Args:
        plan: the expression.
        cutters: what the suite grants, by name.

    Raises:
        PlanError: it is too large, or its answer would not be the policy's.
    """
    kind = _Checker(cutters).text(plan, (), 0)
    if kind != POLICY:
        others = ", ".join(sorted(kind - POLICY)) or "nothing"
        raise PlanError(f"the answer must be made of the policy's words alone, and this one holds: {others}")


class _Checker:
    """One walk over one plan.

    Args:
        cutters: what the suite grants.
    """

    def __init__(self, cutters: Mapping[str, Cutter]) -> None:
        self._cutters = cutters
        self._nodes = 0

    def text(self, node: Text, scope: tuple[Kind, ...], depth: int) -> Kind:
        """The kind of a text, given the kinds of the variables around it."""
        self._count(depth)
        deeper = depth + 1
        match node:
            case Literal(text=text):
                if not text.isprintable():
                    raise PlanError("a constant holds printable characters alone")
                return CONSTANT
            case Payload() | Prompt():
                return TASK
            case Lessons():
                return MEMORY
            case Variable(index=index):
                if index >= len(scope):
                    raise PlanError(f"there is no variable {index} here, only {len(scope)}")
                return scope[index]
            case Operand(text=text):
                return self.text(text, scope, deeper)
            case Concat(texts=texts):
                return frozenset().union(*(self.text(text, scope, deeper) for text in texts))
            case Slice(text=text):
                if self.text(text, scope, deeper) != POLICY:
                    raise PlanError("only the policy's words can be sliced")
                return POLICY
            case Ask(prompt=prompt) | Retry(prompt=prompt):
                self.text(prompt, scope, deeper)
                return POLICY
            case Vote(prompts=prompts, otherwise=otherwise):
                for prompt in prompts:
                    self.text(prompt, scope, deeper)
                return POLICY if otherwise is None else POLICY | self.text(otherwise, scope, deeper)
            case Verify(prompt=prompt, back=back, gives=gives):
                self.text(prompt, scope, deeper)
                if self.text(gives, scope, deeper) != TASK:
                    raise PlanError("`verify` compares with a text of the task")
                self.binding(back, scope, (POLICY,), deeper)
                if not _asks(back.body):
                    raise PlanError("`verify` must ask the policy on the way back")
                return POLICY
            case Window(text=text, size=size, pair=pair, one=one):
                self._granted("window", size)
                kind = self.text(text, scope, deeper)
                return self.binding(pair, scope, (kind,), deeper) | self.binding(one, scope, (kind,), deeper)
            case Fold(parts=parts, first=first, then=then):
                part = self.parts(parts, scope, deeper)
                so_far = self.binding(first, scope, (part,), deeper)
                if self.binding(then, scope, (so_far, part), deeper) != so_far:
                    raise PlanError("what a fold begins with and what it goes on with must be of one kind")
                return so_far
            case Join(parts=parts):
                return self.parts(parts, scope, deeper)
        raise PlanError(f"no text: {type(node).__name__}")

    def parts(self, node: Parts, scope: tuple[Kind, ...], depth: int) -> Kind:
        """The kind of every part of a list."""
        self._count(depth)
        match node:
            case Cut(text=text, size=size, at=at):
                self._granted(at, size)
                return self.text(text, scope, depth + 1)
            case Each(parts=parts, way=way):
                return self.binding(way, scope, (self.parts(parts, scope, depth + 1),), depth + 1)
            case Backwards(parts=parts):
                return self.parts(parts, scope, depth + 1)
        raise PlanError(f"no parts: {type(node).__name__}")

    def binding(self, way: Binding, scope: tuple[Kind, ...], given: tuple[Kind, ...], depth: int) -> Kind:
        """The kind of what a function makes of texts of these kinds."""
        if way.first != len(scope):
            raise PlanError(
                f"variables are numbered from the outside in: {len(scope)} comes next, not {way.first}"
            )
        return self.text(way.body, (*scope, *given), depth + 1)

    def _granted(self, name: str, size: int) -> None:
        cutter = self._cutters.get(name)
        if cutter is None:
            raise PlanError(
                f"this suite grants no cutter {name!r}; it grants {', '.join(sorted(self._cutters))}"
            )
        if size < cutter.least:
            raise PlanError(f"parts by {name!r} have {cutter.least} characters at least, not {size}")

    def _count(self, depth: int) -> None:
        self._nodes += 1
        if depth > MOST_DEPTH or self._nodes > MOST_NODES:
            raise PlanError(f"a plan has at most {MOST_NODES} expressions, {MOST_DEPTH} deep")


def _asks(node: Text | Parts | Binding) -> bool:
    """Whether the policy is asked on the way to this text, whichever way its evaluation takes."""
    match node:
        case Ask() | Vote(otherwise=None) | Retry() | Verify():
            return True
        case Vote(otherwise=otherwise):
            return otherwise is not None and _asks(otherwise)
        case Concat(texts=texts):
            return any(map(_asks, texts))
        case Slice(text=text) | Operand(text=text) | Cut(text=text):
            return _asks(text)
        case Join(parts=parts) | Backwards(parts=parts):
            return _asks(parts)
        case Each(parts=parts, way=way):
            return _asks(parts) or _asks(way)
        case Fold(first=first):
            return _asks(first)
        case Window(pair=pair, one=one):
            return _asks(pair) and _asks(one)
        case Binding(body=body):
            return _asks(body)
    return False
