"""The sandboxed process: imported as its first module, with the operators' folder as argument; frames on stdin and stdout.

Standard library only. Nothing here is a defence: a program may rewrite this module in memory. The defences
are the kernel's layers around the process and the host, which checks all that comes out.
"""

import posix
import sys

import loader
from agent import Agent, Task
from codec import dumps, loads
from rounds import Rounds, short


class Frames:
    """Length-prefixed messages on descriptors of their own, so that a stray `print` cannot mix with them."""

    def __init__(self):
        self.input = posix.dup(0)
        self.output = posix.dup(1)
        posix.dup2(2, 1)
        posix.close(0)

    def read(self):
        return read(self.input)

    def write(self, message):
        body = message.encode()
        data = memoryview(len(body).to_bytes(4, "little") + body)
        while data:
            data = data[posix.write(self.output, data) :]


def read(descriptor):
    """One message from a descriptor; ends the process at its end."""
    return loads(_exactly(descriptor, int.from_bytes(_exactly(descriptor, 4), "little")))


def _exactly(descriptor, count):
    parts = []
    while count:
        part = posix.read(descriptor, min(count, 1 << 20))
        if not part:
            posix._exit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def view(value):
    """A brief or report as objects with attributes; what is a table by names stays a dictionary."""
    from types import SimpleNamespace

    if isinstance(value, list):
        return [view(item) for item in value]
    if isinstance(value, dict):
        return SimpleNamespace(**{k: v if k in TABLES else view(v) for k, v in value.items()})
    return value


TABLES = ("source", "scores")


def text_answer(most):
    """How `solve` must end: with text of bounded length."""

    def finish(value):
        if not isinstance(value, str):
            return None, "malformed", f"solve returned {type(value).__name__}, not text"
        if len(value) > most:
            return None, "malformed", f"an answer of {len(value)} characters"
        return str(value).encode("utf-8", "replace").decode(), None, ""

    return finish


def plan_answer(value):
    """How `solve` must end where it is called with an opaque task: with a plan, or, as a coroutine, without one."""
    if value is COMPUTES:
        return "null", None, ""
    if hasattr(value, "send") and hasattr(value, "close"):
        value.close()
        return "null", None, ""
    try:
        import plan

        return dumps(plan.node(value)), None, ""
    except (TypeError, ValueError, RecursionError) as error:
        return None, "malformed", f"solve returned no plan: {short(error)}"


COMPUTES = object()
"""Stands for the plan of a `solve` that answers each task by itself."""


def is_coroutine(function):
    """Whether `solve` is an `async def`: it answers each task by itself, and has no plan to return."""
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & COROUTINE)


COROUTINE = 0x80
"""Flag of the code of an `async def`; the module that names it is a large one."""


def candidates_answer(value):
    """How `improve` must end: with lists of edits. A candidate that does not compile is left out alone."""
    kept = []
    try:
        for candidate in value:
            edits = [candidate] if hasattr(candidate, "path") else list(candidate)
            fields = [{name: str(getattr(edit, name)) for name in EDIT_FIELDS} for edit in edits]
            if all(compiles(edit) for edit in fields):
                kept.append(fields)
    except (TypeError, AttributeError) as error:
        return None, "malformed", f"improve returned no list of edits: {short(error)}"
    return dumps(kept), None, ""


EDIT_FIELDS = ("path", "text", "operator", "summary")


def compiles(edit):
    """Whether an edit's text is Python, where its file is."""
    if not edit["path"].endswith(".py"):
        return True
    try:
        compile(edit["text"], edit["path"], "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def choice_answer(value):
    """How `select_parent` must end: with the id of a variant."""
    if not isinstance(value, str) or len(value) > LONGEST_ID:
        return None, "malformed", f"select_parent returned {type(value).__name__}, not the id of a member"
    return str(value).encode("utf-8", "replace").decode(), None, ""


LONGEST_ID = 64


def recipe_answer(value):
    """How `recipe` must end: with a Recipe of numbers."""
    try:
        fields = {name: float(getattr(value, name)) for name in type(value).__slots__}
    except (TypeError, ValueError, AttributeError) as error:
        return None, "malformed", f"recipe returned no Recipe: {short(error)}"
    return dumps(fields), None, ""


def main():
    frames = Frames()
    if sys.argv[2] == "attempt":
        import apart
    # From here on the host answers clocks and entropy, and others' words are read.
    loader.virtual_clock()
    start = frames.read()

    def exchange(requests, done):
        asked = ",".join([f"[{dumps(kind)},{index},{text}]" for kind, index, text in requests])
        frames.write(f'{{"requests":[{asked}],"done":{dumps(done)}}}')
        return frames.read()["replies"]

    if sys.argv[2] == "attempt":
        apart.run(start, exchange, play, read)
    else:
        play(start, exchange)


FUNCTIONS = {
    "recipe": ("learn", "recipe"),
    "plan": ("solve", "solve"),
    "select": ("select_parent", "select_parent"),
}
"""Module and function of a mode, where they do not bear its name."""


def play(start, exchange):
    """Runs the attempts of a start in this process.

    Args:
        start: the host's first message.
        exchange: sends a round (requests, done) and returns the replies.
    """
    mode, limits = start["mode"], start["limits"]
    loader.install(start["files"], sys.argv[1])
    finish = {
        "solve": text_answer(limits["answer"]),
        "plan": plan_answer,
        "improve": candidates_answer,
        "recipe": recipe_answer,
        "select": choice_answer,
    }[mode]
    rounds = Rounds(exchange, limits["step_seconds"], finish)
    loader.count(rounds)
    agents = [Agent(limits, seed, start["files"]) for seed in start["seeds"]]

    async def load():
        file, name = FUNCTIONS.get(mode, (mode, mode))
        return getattr(__import__(file), name)

    async def attempt(function, index):
        if mode == "solve":
            return await function(Task(*start["tasks"][index]), agents[index])
        if mode == "plan":
            import plan

            if is_coroutine(function):
                return COMPUTES
            return function(plan.Task(*start["tasks"][index][:2]))
        argument = view(start["argument"])
        if mode == "select":
            return function(argument, agents[index].rng)
        return await function(argument, agents[index]) if mode == "improve" else function(argument)

    # Importing the program is a step like any other: it may loop, raise or exit.
    importing = Rounds(None, limits["step_seconds"], lambda function: (function, None, ""))
    importing.run_alone(load(), start["seeds"][0] if start["seeds"] else 0)
    function, failure, detail = importing.done[0][1:]
    if failure is not None:
        rounds.done = [(index, None, failure, detail) for index in range(len(agents))]
        rounds.run([], [])
        return
    rounds.run([attempt(function, index) for index in range(len(agents))], start["seeds"])


main()
