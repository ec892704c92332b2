"""The whole world that a program sees: the policy, memory, a source of randomness, and what is left to
spend."""


class BudgetExceeded(Exception):
    """More requests, tokens or text than one attempt may spend."""


class ToolError(Exception):
    """A tool that the suite does not grant."""


class Lesson:
    """What memory kept of an earlier attempt."""

    __slots__ = ("prompt", "answer", "skill", "level", "success")

    def __init__(self, prompt, answer, skill, level, success):
        self.prompt = prompt
        self.answer = answer
        self.skill = skill
        self.level = level
        self.success = success


class Task:
    """What a program sees of a task."""

    __slots__ = ("prompt", "skill")

    def __init__(self, prompt, skill):
        self.prompt = prompt
        self.skill = skill


class Budget:
    """What is left of an attempt's requests and tokens."""

    __slots__ = ("requests", "tokens")

    def __init__(self, requests, tokens):
        self.requests = requests
        self.tokens = tokens


class _Wants:
    """An awaitable that blocks its coroutine on requests and gives their replies."""

    __slots__ = ("wants",)

    def __init__(self, wants):
        self.wants = wants

    def __await__(self):
        replies = yield self.wants
        return replies


class _Together:
    """Runs coroutines side by side: what they ask for at one time goes into one round."""

    __slots__ = ("coroutines",)

    def __init__(self, coroutines):
        self.coroutines = coroutines

    def __await__(self):
        results = [None] * len(self.coroutines)
        replies = dict.fromkeys(range(len(self.coroutines)))
        while True:
            wanted = {}
            for index, reply in replies.items():
                try:
                    wanted[index] = self.coroutines[index].send(reply)
                except StopIteration as stop:
                    results[index] = stop.value
            if not wanted:
                return results
            answers = yield [want for wants in wanted.values() for want in wants]
            replies = {}
            start = 0
            for index, wants in wanted.items():
                replies[index] = answers[start : start + len(wants)]
                start += len(wants)


class Agent:
    """One attempt's view of the policy and of memory."""

    __slots__ = ("budget", "_limits", "_seed", "_rng")

    def __init__(self, limits, seed):
        self.budget = Budget(limits["requests"], limits["tokens"])
        self._limits = limits
        self._seed = seed
        self._rng = None

    @property
    def rng(self):
        """A `random.Random` of this attempt's own; the same attempt draws the same numbers."""
        if self._rng is None:
            from random import Random

            self._rng = Random(self._seed)
        return self._rng

    async def generate(self, prompt, *, n=1, temperature=1.0, top_p=1.0, max_tokens=None):
        """Asks the policy; returns `n` completions. Temperature 0 takes the likeliest token each time.

        Raises:
            BudgetExceeded: the attempt has spent what it may.
        """
        limits = self._limits
        if max_tokens is None:
            max_tokens = limits["max_tokens"]
        if not isinstance(prompt, str):
            raise TypeError(f"a prompt is text, not {type(prompt).__name__}")
        if not isinstance(n, int) or not isinstance(max_tokens, int):
            raise TypeError("n and max_tokens are whole numbers")
        temperature, top_p = float(temperature), float(top_p)
        if not (0.0 <= temperature <= 8.0 and 0.0 < top_p <= 1.0 and n >= 1 and max_tokens >= 1):
            raise ValueError(f"cannot generate with n={n}, {temperature=}, {top_p=}, {max_tokens=}")
        if n > limits["samples"] or len(prompt) > limits["prompt"]:
            raise BudgetExceeded(f"one request with {n} samples of {len(prompt)} characters")
        self._spend()
        wants = [("generate", prompt, n, temperature, top_p, min(max_tokens, limits["max_tokens"]))]
        [texts] = await _Wants(wants)
        self.budget.tokens -= sum(len(text) + 1 for text in texts)
        return texts

    async def gather(self, *coroutines):
        """Runs coroutines of this attempt side by side and returns their results in order."""
        return await _Together(coroutines)

    async def recall(self, query, k=4):
        """The `k` lessons of this task's skill that fit `query` best, best first."""
        if not isinstance(query, str) or not isinstance(k, int) or k < 1:
            raise TypeError("recall takes text and a positive number")
        if k > self._limits["recalled"] or len(query) > self._limits["prompt"]:
            raise BudgetExceeded(f"recall of {k} lessons by {len(query)} characters")
        self._spend()
        [lessons] = await _Wants([("recall", query, k)])
        return [Lesson(*lesson) for lesson in lessons]

    async def call(self, tool, **arguments):
        """Calls a tool that the suite grants."""
        raise ToolError(f"this suite grants no tool {tool!r}")

    def _spend(self):
        if self.budget.requests <= 0 or self.budget.tokens <= 0:
            raise BudgetExceeded("no requests or tokens left")
        self.budget.requests -= 1
