"""How this variant answers a task: by the plan of its verb, or by asking once."""

import plan

ROUTES = {}


def dispatch(task):
    """A plan for any task, a part of another one included. A verb of several parts asks for one after the other."""
    if task.verb in ROUTES:
        return ROUTES[task.verb](task)
    first, _, rest = task.verb.partition("+")
    return dispatch(task.under(rest, dispatch(task.under(first)))) if rest else plan.ask(task.prompt)


def solve(task):
    return dispatch(task)
