"""The whole world that a program sees: the policy, memory, tools, a source of randomness, and what is left to spend."""


class BudgetExceeded(Exception):
    """More requests, tokens or text than a limit of the role allows; the message names the limit."""


class RequestRefused(Exception):
    """A request that is malformed, or that the policy cannot answer."""


class ToolError(Exception):
    """A tool that the suite does not grant, or that failed."""


ERRORS = {"budget": BudgetExceeded, "tool": ToolError}


class Lesson:
    """What memory keeps: a graded attempt of the past, or a text that a program gave it. `success` says whether it is an
    attempt that the grader confirmed; a program's text has no prompt and no answer."""

    __slots__ = ("prompt", "answer", "skill", "level", "success", "text", "kind")

    def __init__(self, prompt, answer, skill, level, success, text, kind):
        self.prompt = prompt
        self.answer = answer
        self.skill = skill
        self.level = level
        self.success = success
        self.text = text
        self.kind = kind


class Task:
    """A task without its answer. `messages` is its conversation, ready for `generate`; of a text, the text as the user's."""

    __slots__ = ("prompt", "skill", "messages")

    def __init__(self, prompt, skill, messages=()):
        self.prompt = prompt
        self.skill = skill
        self.messages = list(messages) or [{"role": "user", "content": prompt}]


class Budget:
    """The rest of an attempt's requests and tokens."""

    __slots__ = ("requests", "tokens")

    def __init__(self, requests, tokens):
        self.requests = requests
        self.tokens = tokens


class ToolCall:
    """A call that the model asks for: `id`, `name`, and `arguments` as a dictionary."""

    __slots__ = ("id", "name", "arguments")

    def __init__(self, id, name, arguments):
        self.id = id
        self.name = name
        self.arguments = arguments


class Completion:
    """One answer of the policy.

    `finish` is `stop`, `length` or `tool_calls`, `logprob` the log-probability of the whole (None where a server does
    not tell), `tokens` how many were generated.
    """

    __slots__ = ("text", "finish", "logprob", "tokens", "tool_calls", "reasoning")

    def __init__(self, text, finish, logprob, tokens, tool_calls=(), reasoning=""):
        self.text = text
        self.finish = finish
        self.logprob = logprob
        self.tokens = tokens
        self.tool_calls = [ToolCall(*call) for call in tool_calls] if tool_calls else ()
        self.reasoning = reasoning

    def message(self):
        """The answer as a message for the next request's conversation."""
        message = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message["reasoning"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        return message


class Completions(list):
    """The completions of one request; what is asked of the list itself is the first one's."""

    text = property(lambda self: self[0].text)
    finish = property(lambda self: self[0].finish)
    logprob = property(lambda self: self[0].logprob)
    tool_calls = property(lambda self: self[0].tool_calls)

    def message(self):
        """The first completion as a message."""
        return self[0].message()


class _Request:
    """An awaitable that blocks its coroutine on one request, charges the budget, and gives the answer's value."""

    __slots__ = ("budget", "kind", "arguments")

    def __init__(self, budget, kind, arguments):
        self.budget = budget
        self.kind = kind
        self.arguments = arguments

    def __await__(self):
        budget = self.budget
        if budget.requests <= 0 or budget.tokens <= 0:
            raise BudgetExceeded(f"no requests or tokens left: {budget.requests} and {budget.tokens}")
        from codec import dumps  # Beside this module inside, and nowhere else.

        arguments = dumps(self.arguments)
        budget.requests -= 1
        [reply] = yield [(self.kind, arguments)]
        if len(reply) > 2:
            raise ERRORS.get(reply[2], RequestRefused)(reply[3])
        tokens, requests, _ = reply[0]
        budget.tokens -= tokens
        budget.requests -= requests
        return reply[1]


class _Together:
    """Runs coroutines side by side: their requests of one time go into one round."""

    __slots__ = ("coroutines",)

    def __init__(self, coroutines):
        self.coroutines = [c.__await__() if isinstance(c, _Request) else c for c in coroutines]

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


class Workspace:
    """An attempt's text files by path: the task's, and what the attempt writes; a check sees what is left. Each step is a
    request, and each 64 Ki characters one more.

    Raises:
        RequestRefused: no such file, no text, or a path that cannot be.
        BudgetExceeded: no requests are left, or the files would be larger than a workspace.
    """

    __slots__ = ("_budget",)

    def __init__(self, budget):
        self._budget = budget

    def _step(self, step, **fields):
        return _Request(self._budget, "workspace", {"step": step, **fields})

    async def paths(self):
        """The paths of all files, in order."""
        return await self._step("paths")

    async def read(self, path):
        """A file's text."""
        text, left = await self._step("read", path=path)
        while left:
            piece, left = await self._step("read", path=path, start=len(text))
            text += piece
        return text

    async def write(self, path, text):
        """Writes a file, over what it held."""
        await self._step("write", path=path, text=text[:PIECE])
        for start in range(PIECE, len(text), PIECE):
            await self._step("write", path=path, text=text[start : start + PIECE], more=True)

    async def remove(self, path):
        """Takes a file out."""
        await self._step("remove", path=path)


PIECE = 64 << 10
"""Characters of a file that one request carries."""


class Agent:
    """One attempt's view of the policy, of memory and of tools.

    The methods below are the requests that every run answers. Any other name is sent as a request of that kind, its
    arguments by name: the host says what there is, and refuses the rest by name. `files` holds the program's own files by
    path: `agent.files["prompts/system.md"]`.
    """

    __slots__ = ("budget", "files", "workspace", "_seed", "_rng")

    def __init__(self, limits, seed, files):
        self.files = dict(files)
        self.budget = Budget(limits["requests"], limits["tokens"])
        self.workspace = Workspace(self.budget)
        self._seed = seed
        self._rng = None

    @property
    def rng(self):
        """A `random.Random` of this attempt's own; the same attempt draws the same numbers."""
        if self._rng is None:
            from random import Random

            self._rng = Random(self._seed)
        return self._rng

    async def generate(self, prompt, **settings):
        """Completions of a text, or of a conversation: messages in OpenAI's form.

        Settings: `n`, `max_tokens`, `temperature` (0 takes the likeliest token each time), `top_p`, `top_k`, `min_p`,
        `frequency_penalty`, `presence_penalty`, `repetition_penalty`, `stop` (a text or several), `tools` and `schema`
        (JSON schemas), `worded` (false: to a chat model as it is written, without the suite's wording).

        Raises:
            BudgetExceeded: the attempt has spent its share, or a setting is above its role's limit.
            RequestRefused: a setting that is unknown, impossible, or that the policy cannot honour.
        """
        settings["prompt"] = prompt
        return Completions(
            [Completion(*fields) for fields in await _Request(self.budget, "generate", settings)]
        )

    async def gather(self, *coroutines):
        """Runs coroutines of this attempt side by side and returns their results in order."""
        return await _Together(coroutines)

    async def recall(self, query, k=4, budget=None, **settings):
        """The `k` lessons of this task's skill that fit `query` best, best first, in at most `budget` characters.

        Settings: `kinds` (of fact, procedure, tool, preference, failure; all but failures where none are named), `words`,
        `vector` and `trust` (how much each weighs), `confidence` (lessons of less are left out, so that there may be none).
        """
        settings |= {"query": query, "k": k, "budget": budget}
        return [Lesson(*lesson) for lesson in await _Request(self.budget, "recall", settings)]

    async def remember(self, text, kind="procedure"):
        """Gives memory a text about this task's skill; true if it will be considered when the cycle ends.

        It is kept if it says something new and contradicts nobody, and is recalled from the next cycle on.
        """
        return await _Request(self.budget, "remember", {"text": text, "kind": kind})

    async def call(self, tool=None, /, **arguments):
        """The result of a tool that the suite grants; its name comes first, and its arguments by theirs.

        Raises:
            ToolError: no such tool is granted, or it failed.
        """
        if tool is None:
            tool = arguments.pop("tool", None)
        return await _Request(self.budget, "call", {"tool": tool, "arguments": arguments})

    async def tools(self, query="", k=None):
        """The granted tools whose name or description holds a word of `query`, best match first and `k` at most, ready for
        `generate(tools=)`; without a query all of them."""
        return await _Request(self.budget, "tools", {"query": query, "k": k})

    def __getattr__(self, kind):
        if kind.startswith("_"):
            raise AttributeError(kind)
        return lambda **arguments: _Request(self.budget, kind, arguments)
