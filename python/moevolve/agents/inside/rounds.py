"""Attempts as coroutines: step each until it asks or ends, then ask for all of them at once."""

import _signal
from _signal import setitimer

from agent import BudgetExceeded, RequestRefused
from loader import reseed


class StepTimeout(BaseException):
    """One step ran for too long; not an `Exception`, so that a program's own handlers let it through."""


def _alarm(number, frame):
    raise StepTimeout


class Rounds:
    """Runs attempts to their end.

    Args:
        exchange: sends a round (requests, done) and returns the replies to the requests.
        step_seconds: processor time of one step.
        finish: turns what a coroutine returned into (answer, failure, detail).
    """

    def __init__(self, exchange, step_seconds, finish):
        self.exchange = exchange
        self.step_seconds = step_seconds
        self.finish = finish
        self.count = 0
        self.done = []
        _signal.signal(_signal.SIGPROF, _alarm)

    def run_alone(self, coroutine, seed):
        """Runs one coroutine that asks for nothing; how it ended is the first of `done`."""
        if self.step(0, coroutine, None, seed) is not None:
            self.done.append((0, None, "error", "it asked the policy while it was being imported"))

    def run(self, coroutines, seeds):
        """Steps all coroutines in order of their index, round by round."""
        blocked = {}
        for index, coroutine in enumerate(coroutines):
            wants = self.step(index, coroutine, None, seeds[index])
            if wants is not None:
                blocked[index] = wants
        while blocked:
            requests = [(kind, index, text) for index, wants in blocked.items() for kind, text in wants]
            done, self.done = self.done, []
            answers = iter(self.exchange(requests, done))
            self.count += 1
            following = {}
            for index, wants in blocked.items():
                replies = [next(answers) for _ in wants]
                if None in replies:
                    dismiss(coroutines[index])
                    self.done.append((index, None, "budget", "the host ended the attempt"))
                    continue
                wants = self.step(index, coroutines[index], replies, seeds[index])
                if wants is not None:
                    following[index] = wants
            blocked = following
        self.exchange([], self.done)

    def step(self, index, coroutine, replies, seed):
        """Runs one attempt to its next request; returns what it wants, or None if it ended."""
        reseed(seed, self.count)
        try:
            setitimer(_signal.ITIMER_PROF, self.step_seconds, self.step_seconds)
            try:
                wants = coroutine.send(replies)
            finally:
                setitimer(_signal.ITIMER_PROF, 0)
            if isinstance(wants, list) and all(map(is_request, wants)):
                return wants
            coroutine.close()
            ending = (None, "error", "it awaited something that is not the agent's")
        except StopIteration as stop:
            ending = self.finish(stop.value)
        except StepTimeout:
            ending = (None, "timeout", f"no request within {self.step_seconds:g} s of processor time")
        except BudgetExceeded as error:
            ending = (None, "budget", short(error))
        except RequestRefused as error:
            ending = (None, "rejected", short(error))
        except BaseException as error:  # noqa: BLE001  whatever a program raises is data
            ending = (None, "error", short(error))
        self.done.append((index, *ending))
        return None


def is_request(want):
    """Whether `want` is (kind, JSON of its arguments)."""
    return isinstance(want, tuple) and len(want) == 2 and all(isinstance(part, str) for part in want)


def dismiss(coroutine):
    """Ends an attempt from outside; what it raises while it goes is nobody's concern, least of all its siblings'."""
    try:
        coroutine.close()
    except BaseException as error:  # noqa: BLE001  it may refuse to end, and then it is simply not asked again
        del error


def short(error):
    """An exception in one line: its type and message, and the program's line that raised it."""
    where = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "/" not in code.co_filename and not code.co_filename.startswith("<"):
            where = f" ({code.co_filename}:{trace.tb_lineno} in {code.co_name})"
        trace = trace.tb_next
    try:
        message = str(error)[:300]
    except BaseException:  # noqa: BLE001  its own __str__ may raise as well
        message = "?"
    return f"{type(error).__name__}: {message}{where}".encode("ascii", "replace").decode()
