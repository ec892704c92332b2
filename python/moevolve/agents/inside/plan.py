"""What `solve.py` of a suite with `answers = "policy"` imports: opaque texts, and what can be said about them.

`solve(task)` runs once a skill and returns an expression; the host evaluates it for every task of the skill. No text, length
or bit of one comes back, so a text cannot be compared, counted or printed: say what to do with it instead.

    from plan import ask

    def solve(task):
        return task.payload.cut(3, above=4).each(lambda part: ask(f"{task.verb}:{part}=")).backwards().join()
"""

_MARK = "\ue000"


class Opaque(TypeError):
    """A text was looked at."""


class Handle:
    """A text, or a list of texts, that the host will know."""

    __slots__ = ("node",)

    def __init__(self, node):
        self.node = node

    def _look(self, *_):
        raise Opaque(
            "texts of this suite cannot be read: no if, ==, len, in, int or loop over them; "
            "say what to do instead (.cut, .each, .join, .one_by_one, vote, verify, retry)"
        )

    __len__ = __bool__ = __iter__ = __contains__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _look
    __str__ = __hash__ = __int__ = __float__ = __index__ = _look


class Text(Handle):
    """A text."""

    __slots__ = ()

    def __format__(self, spec):
        """A mark for this text inside a prompt: `ask(f"rev:{part}=")`."""
        _marked.append(self.node)
        return f"{_MARK}{len(_marked) - 1}{_MARK}"

    def __add__(self, other):
        return Text(["concat", [self.node, node(other)]])

    def __radd__(self, other):
        return Text(["concat", [node(other), self.node]])

    def __getitem__(self, span):
        """A beginning or an end of the policy's words: `answer[1:]`, `answer[-1:]`."""
        if not isinstance(span, slice) or span.step is not None:
            raise Opaque("only beginnings and ends can be taken: answer[1:], answer[-1:]")
        return Text(["slice", self.node, span.start, span.stop])

    def cut(self, size, at="even", above=0):
        """Parts of about `size` characters by one of the suite's cutters; at most `above` characters stay whole."""
        return Parts(["cut", self.node, size, at, above])

    @property
    def left(self):
        """What stands before the sign of two numbers."""
        return Text(["operand", self.node, 0])

    @property
    def sign(self):
        """The sign between two numbers."""
        return Text(["operand", self.node, 1])

    @property
    def right(self):
        """What stands after the sign of two numbers."""
        return Text(["operand", self.node, 2])


class Parts(Handle):
    """A list of texts."""

    __slots__ = ()

    def each(self, way):
        """Every part through `way`, a function from a text to a text, side by side."""
        return Parts(["each", self.node, _binding(way, 1)])

    def backwards(self):
        """The parts in reverse order."""
        return Parts(["backwards", self.node])

    def join(self, number=False):
        """One text; as a `number`, without a first part that is `0`."""
        return Text(["join", self.node, bool(number)])

    def one_by_one(self, first, then):
        """`first(part)`, then `then(so_far, part)` for every part after it."""
        return Text(["fold", self.node, _binding(first, 1), _binding(then, 2)])


class Task:
    """A task: the skill and verb are known, its texts are not."""

    __slots__ = ("verb", "skill", "payload", "prompt")

    def __init__(self, verb, skill, payload=None):
        self.verb = verb
        self.skill = skill
        self.payload = Text(["payload"]) if payload is None else payload
        self.prompt = Text(["prompt"]) if payload is None else Text(node(f"{verb}:{payload}="))

    def under(self, verb, payload=None):
        """The same payload, or another one, under another verb."""
        return Task(verb, self.skill, self.payload if payload is None else payload)


def ask(prompt):
    """The policy's likeliest answer."""
    return Text(["ask", node(prompt)])


def vote(*prompts, samples=8, temperature=0.7, least=0.0, otherwise=None):
    """The most frequent of likeliest answers and samples, over prompts that ask the same; `otherwise` where fewer than
    `least` of them agree."""
    spare = None if otherwise is None else node(otherwise)
    return Text(
        ["vote", [node(prompt) for prompt in prompts], samples, float(temperature), float(least), spare]
    )


def verify(prompt, back, gives, samples=8, temperature=0.8):
    """The first answer for which `back(answer)` says `gives`; the most frequent where none does."""
    return Text(["verify", node(prompt), samples, float(temperature), _binding(back, 1), node(gives)])


def retry(prompt, samples=5, temperature=0.7):
    """The likeliest answer, or a sample where it is empty or as long as the prompt."""
    return Text(["retry", node(prompt), samples, float(temperature)])


def window(payload, size, above, pair, one):
    """Of `number,number`: `pair` of some digits from where they differ, `one` of the number that it named."""
    return Text(["window", payload.node, size, above, _binding(pair, 1), _binding(one, 1)])


def lessons(k, words=0.5):
    """Solved examples that memory has for the task, to stand in front of a prompt: the `k` best by words, in the share that
    they weigh, and by the nearness of the whole text."""
    return Text(["lessons", k, float(words)])


def node(value):
    """The expression of a handle, or of a string with marks of handles in it."""
    if isinstance(value, Handle):
        return value.node
    if not isinstance(value, str):
        raise TypeError(f"a text or an opaque text is wanted here, not {type(value).__name__}")
    pieces = value.split(_MARK)
    if len(pieces) == 1:
        return ["literal", value]
    nodes = [["literal", piece] if at % 2 == 0 else _marked[int(piece)] for at, piece in enumerate(pieces)]
    return ["concat", [node for node in nodes if node != ["literal", ""]]]


def _binding(way, count):
    """What `way` makes of fresh variables, with the number of the first."""
    first = _depth[0]
    _depth[0] += count
    try:
        return [first, node(way(*[Text(["variable", first + index]) for index in range(count)]))]
    finally:
        _depth[0] = first


_depth = [0]
_marked = []
