"""The evaluator: what a checked plan comes to on one task, as a generator that yields questions and is sent completions.

A question is `Ask`; all that one task can ask at a time comes in one list, so that a round of questions is one batch for
the policy. Nothing here draws or waits: a plan's answer is a function of its task and of the completions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

import msgspec

from moevolve.agents.plans import expression as e
from moevolve.agents.plans.values import Value, answered, concat, part
from moevolve.tasks.cutters import Cutter

MOST_STEPS = 5000
"""Expressions evaluated for one task."""
MOST_TEXT = 2048
"""Characters of any text on the way."""


class Ask(msgspec.Struct, frozen=True):
    """A question to the policy: `n` completions of a prompt at a temperature, 0 for the likeliest."""

    prompt: str
    n: int = 1
    temperature: float = 0.0


class OverBudget(Exception):
    """A plan that does more than one task may cost."""


Asking = Generator[list[Ask], list[list[str]], Value]
AskingParts = Generator[list[Ask], list[list[str]], list[Value]]
Scope = tuple[Value, ...]


class Evaluation:
    """One plan on one task.

    Args:
        prompt: the task's prompt, `verb:payload=`.
        cutters: what the suite grants.
        lessons: (`k`, weight of words) -> solved examples that memory has for the prompt.
    """

    def __init__(
        self, prompt: str, cutters: Mapping[str, Cutter], lessons: Callable[[int, float], str]
    ) -> None:
        self._prompt = Value(prompt, task=True)
        self._payload = Value(prompt.partition(":")[2].removesuffix("="), task=True)
        self._cutters = cutters
        self._lessons = lessons
        self._steps = 0

    def text(self, node: e.Text, scope: Scope = ()) -> Asking:
        """The text that an expression comes to.

        Raises:
            OverBudget: too many steps, or a text that is too long.
        """
        value = yield from self._text(node, scope)
        if len(value.text) > MOST_TEXT:
            raise OverBudget(f"a text of {len(value.text):,} characters; at most {MOST_TEXT:,} are allowed")
        return value

    def _text(self, node: e.Text, scope: Scope) -> Asking:
        self._step()
        match node:
            case e.Literal(text=text):
                return Value(text)
            case e.Payload():
                return self._payload
            case e.Prompt():
                return self._prompt
            case e.Variable(index=index):
                return scope[index]
            case e.Lessons(k=k, words=words):
                return Value(self._lessons(k, words))
            case e.Operand(text=text, index=index):
                whole = yield from self.text(text, scope)
                return part(whole, _operands(whole.text)[index])
            case e.Concat(texts=texts):
                return concat((yield from self._many([(text, scope) for text in texts])))
            case e.Slice(text=text, start=start, stop=stop):
                whole = yield from self.text(text, scope)
                return part(whole, whole.text[start:stop])
            case e.Ask(prompt=prompt):
                asked = yield from self.text(prompt, scope)
                [[answer]] = yield [Ask(asked.text)]
                return answered(answer, asked)
            case e.Vote():
                return (yield from self._vote(node, scope))
            case e.Verify():
                return (yield from self._verify(node, scope))
            case e.Retry(prompt=prompt, samples=samples, temperature=temperature):
                asked = yield from self.text(prompt, scope)
                [[first]] = yield [Ask(asked.text)]
                if 0 < len(first) < len(asked.text):
                    return answered(first, asked)
                [others] = yield [Ask(asked.text, samples, temperature)]
                usable = [other for other in others if 0 < len(other) < len(asked.text)]
                return answered(most_frequent(usable or [first]), asked)
            case e.Window():
                return (yield from self._window(node, scope))
            case e.Fold(parts=parts, first=first, then=then):
                values = yield from self.parts(parts, scope)
                total = yield from self.text(first.body, (*scope, values[0]))
                for value in values[1:]:
                    total = yield from self.text(then.body, (*scope, total, value))
                return total
            case e.Join(parts=parts, number=number):
                values = yield from self.parts(parts, scope)
                return concat(values[1:] if number and len(values) > 1 and values[0].text == "0" else values)
        raise AssertionError(f"the checker let {type(node).__name__} through")

    def parts(self, node: e.Parts, scope: Scope) -> AskingParts:
        """The texts of a list; never an empty list."""
        self._step()
        match node:
            case e.Cut(text=text, size=size, at=at, above=above):
                whole = yield from self.text(text, scope)
                if len(whole.text) <= above:
                    return [whole]
                return [part(whole, each) for each in self._cutters[at].cut(whole.text, size)]
            case e.Each(parts=parts, way=way):
                values = yield from self.parts(parts, scope)
                return (yield from self._many([(way.body, (*scope, value)) for value in values]))
            case e.Backwards(parts=parts):
                return (yield from self.parts(parts, scope))[::-1]
        raise AssertionError(f"the checker let {type(node).__name__} through")

    def _vote(self, node: e.Vote, scope: Scope) -> Asking:
        prompts = yield from self._many([(prompt, scope) for prompt in node.prompts])
        given = yield [
            *(Ask(prompt.text) for prompt in prompts),
            *(Ask(prompt.text, node.samples, node.temperature) for prompt in prompts),
        ]
        answers = [
            (answer, prompts[index % len(prompts)]) for index, group in enumerate(given) for answer in group
        ]
        texts = [answer for answer, _ in answers]
        best = most_frequent(texts)
        if node.otherwise is not None and texts.count(best) < node.least * len(texts):
            return (yield from self.text(node.otherwise, scope))
        return answered(*answers[texts.index(best)])

    def _verify(self, node: e.Verify, scope: Scope) -> Asking:
        prompt, gives = yield from self._many([(node.prompt, scope), (node.gives, scope)])
        [[first], others] = yield [Ask(prompt.text), Ask(prompt.text, node.samples, node.temperature)]
        answers = [first, *others]
        distinct = list(dict.fromkeys(answers))
        backs = yield from self._many(
            [(node.back.body, (*scope, answered(text, prompt))) for text in distinct]
        )
        right = [text for text, back in zip(distinct, backs, strict=True) if back.text == gives.text]
        return answered(right[0] if right else most_frequent(answers), prompt)

    def _window(self, node: e.Window, scope: Scope) -> Asking:
        whole = yield from self.text(node.text, scope)
        shown = self._cutters["window"].cut(whole.text, node.size) if len(whole.text) > node.above else []
        if len(shown) == 3:
            pair, left, right = shown
            larger = yield from self.text(node.pair.body, (*scope, part(whole, pair)))
            if larger.text in (names := pair.split(",")):
                number = (left, right)[names.index(larger.text)]
                return (yield from self.text(node.one.body, (*scope, part(whole, number))))
        return (yield from self.text(node.pair.body, (*scope, whole)))

    def _many(self, each: Sequence[tuple[e.Text, Scope]]) -> AskingParts:
        if len(each) == 1:
            return [(yield from self.text(*each[0]))]
        return (yield from side_by_side([self.text(*one) for one in each]))

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise OverBudget(f"more than {MOST_STEPS:,} steps")


def side_by_side(runs: Sequence[Asking]) -> AskingParts:
    """Runs evaluations together: what they ask at one time is one list."""
    results: list[Value] = [Value("")] * len(runs)
    replies: dict[int, list[list[str]] | None] = dict.fromkeys(range(len(runs)))
    while True:
        asked: dict[int, list[Ask]] = {}
        for index, reply in replies.items():
            try:
                asked[index] = next(runs[index]) if reply is None else runs[index].send(reply)
            except StopIteration as stop:
                results[index] = stop.value
        if not asked:
            return results
        given = yield [ask for asks in asked.values() for ask in asks]
        replies, start = {}, 0
        for index, asks in asked.items():
            replies[index] = given[start : start + len(asks)]
            start += len(asks)


def most_frequent(answers: Sequence[str]) -> str:
    """The answer given most often; the earliest of several."""
    return max(answers, key=answers.count)


def _operands(text: str) -> tuple[str, str, str]:
    """What stands before the first sign of a text, the sign, and what stands after it."""
    index = next((index for index, letter in enumerate(text) if letter in "+-,"), len(text))
    return text[:index], text[index : index + 1], text[index + 1 :]
