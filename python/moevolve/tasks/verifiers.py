"""Environments of the library verifiers as suites: a folder with their tasks, whose check is their rewards.

Two contracts are in use. A package of the first (`verifiers` before 0.2) has `load_environment(**arguments)`; its rows and
its rubric's functions are taken. One of the second (`verifiers.v1`) exports a `Taskset`; its tasks and their rewards are.
Only tasks of one turn are: what needs tools, several turns, a container or a judge is refused by name. Nothing here imports
verifiers but what the package itself does.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from moevolve.errors import UsageError
from moevolve.tasks.coroutines import ended
from moevolve.tasks.folder import CHECK, SETTINGS, TASKS

MOST_TASKS = 10_000
CHECK_TEXT = '''"""Rewards of the verifiers environment {name}, in the grader's process."""

from moevolve.tasks.verifiers import rewards

check = rewards({name!r}, {arguments!r})
'''
Check = Callable[[dict[str, Any], str, Path | None], float]


def write(name: str, folder: Path, arguments: Mapping[str, Any], most: int = 1000) -> str:
    """Writes the suite of an installed environment into a folder; returns in words which contract was found.

    Args:
        name: the environment's, or its module's.
        folder: made if missing; files of a suite in it are replaced.
        arguments: of `load_environment`, or of the task set's configuration.
        most: tasks that are taken, the first ones.

    Raises:
        UsageError: the environment is not installed, cannot be loaded, or is of a kind that is no suite.
    """
    environment = opened(name, arguments)
    rows = list(islice(environment.rows(), min(most, MOST_TASKS)))
    if not rows:
        raise UsageError(f"the environment {name!r} has no tasks")
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(row, ensure_ascii=False, sort_keys=True)}\n" for row in rows)
    (folder / TASKS).write_text(text, encoding="utf-8")
    check = CHECK_TEXT.format(name=name, arguments=dict(arguments))
    (folder / CHECK).write_text(check, encoding="utf-8")
    summary = json.dumps(f"The verifiers environment {name}")
    (folder / SETTINGS).write_text(f"summary = {summary}\n", encoding="utf-8")
    return f"{len(rows):,} tasks of {environment.kind}"


def rewards(name: str, arguments: Mapping[str, Any]) -> Check:
    """A suite's check: what an environment's rewards make of an answer, from 0 to 1; errors as of `write`."""
    environment = opened(name, arguments)

    def check(task: dict[str, Any], answer: str, workspace: Path | None) -> float:
        score = ended(environment.score(task, answer))
        if math.isnan(score):
            raise ValueError(f"the rewards of {name} are NaN")
        return min(1.0, max(0.0, score))

    return check


def opened(name: str, arguments: Mapping[str, Any]) -> _Classic | _TaskSet:
    """An installed environment; errors as of `write`."""
    module = _module(name)
    try:
        if callable(getattr(module, "load_environment", None)):
            return _Classic(name, module.load_environment(**arguments))
        kinds = [getattr(module, each, None) for each in getattr(module, "__all__", ())]
        sets = [kind for kind in kinds if isinstance(kind, type) and _is_taskset(kind)]
    except Exception as error:
        raise UsageError(
            f"the environment {name!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if len(sets) != 1:
        raise UsageError(
            f"the module {module.__name__} is no environment of verifiers: it has no load_environment, and its __all__ "
            f"names {len(sets) or 'no'} task sets"
        )
    return _TaskSet(name, sets[0], arguments)


def _module(name: str) -> ModuleType:
    # Names of a hub are `owner/name@version`; what is installed is the last part.
    found = name.rsplit("/", 1)[-1].partition("@")[0].replace("-", "_").lower()
    for module in (f"verifiers.v1.tasksets.{found}", found):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise UsageError(f"the environment {name!r} lacks a package: {error}") from None
        except Exception as error:
            raise UsageError(
                f"the environment {name!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error
    raise UsageError(f"no module {found!r} is installed: `pip install` the environment {name!r} first")


def _is_taskset(kind: type) -> bool:
    return callable(getattr(kind, "load", None)) and any(
        base.__name__ == "Taskset" for base in kind.__mro__[1:]
    )


class _Classic:
    """An environment of `load_environment`."""

    kind = "load_environment"

    def __init__(self, name: str, environment: Any) -> None:
        self._name = name
        kinds = {base.__name__ for base in type(environment).__mro__}
        if "MultiTurnEnv" in kinds and "SingleTurnEnv" not in kinds:
            raise UsageError(
                f"the environment {name!r} answers in several turns ({type(environment).__name__}): a suite's tasks have one"
            )
        self._environment = environment
        self._rubric = environment.rubric
        funcs, weights = list(self._rubric.funcs), list(self._rubric.weights)
        self._funcs = list(zip(funcs, weights, strict=True))
        for func, weight in self._funcs:
            if weight and "judge" in inspect.signature(func).parameters:
                raise UsageError(f"the environment {name!r} has a model judge ({func.__name__})")

    def rows(self) -> Iterable[dict[str, Any]]:
        """Lines of `tasks.jsonl`."""
        data = self._environment.get_dataset()
        for number, row in enumerate(data):
            prompt = row.get("prompt") or row.get("question")
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
            if (system := getattr(self._environment, "system_prompt", None)) and messages[0][
                "role"
            ] != "system":
                messages = [{"role": "system", "content": system}, *messages]
            yield {
                "id": str(row.get("example_id", number)),
                "messages": [{"role": each["role"], "content": each["content"]} for each in messages],
                "answer": str(row.get("answer", "")),
                "info": row.get("info") or {},
                "task": str(row.get("task") or "default"),
            }

    async def score(self, task: Mapping[str, Any], answer: str) -> float:
        """The weighted sum of the rubric's functions."""
        info = task.get("info") or {}
        given: dict[str, Any] = {
            "prompt": task["messages"],
            "completion": [{"role": "assistant", "content": answer}],
            "answer": task.get("answer", ""),
            "info": json.loads(info) if isinstance(info, str) else info,
            "task": task.get("task", "default"),
        }
        given["state"] = {**given, "responses": [], "turn": 1, "timing": {}}
        given |= {"parser": getattr(self._rubric, "parser", None)}
        given |= getattr(self._rubric, "class_objects", {})
        total = 0.0
        for func, weight in self._funcs:
            total += weight * float(await _called(func, given))
        return total


class _TaskSet:
    """A task set of `verifiers.v1`."""

    kind = "a Taskset"

    def __init__(self, name: str, kind: type, arguments: Mapping[str, Any]) -> None:
        self._name = name
        try:
            self._set = kind(_configuration(kind, arguments))
        except Exception as error:
            raise UsageError(f"the task set {kind.__name__} cannot be made: {error}") from error
        self._tasks: dict[str, Any] = {}

    def rows(self) -> Iterable[dict[str, Any]]:
        """Lines of `tasks.jsonl`."""
        for number, task in enumerate(self._set.load()):
            self._refuse(task)
            prompt = task.data.prompt
            if prompt is None:
                raise UsageError(
                    f"task {number} of {self._name!r} has no prompt: its user opens the conversation"
                )
            said = [prompt] if isinstance(prompt, str) else list(prompt)
            messages = [_message(each) for each in said]
            if task.data.system_prompt:
                messages = [{"role": "system", "content": task.data.system_prompt}, *messages]
            yield {"id": str(number), "messages": messages, "place": number}

    async def score(self, task: Mapping[str, Any], answer: str) -> float:
        """The weighted sum of the task's rewards."""
        place = int(task["place"])
        found = self._tasks.get(str(place))
        if found is None:
            found = self._tasks[str(place)] = next(islice(self._set.load(), place, None))
        trace = Trace(task["messages"], answer)
        await found.score(trace)
        return trace.reward

    def _refuse(self, task: Any) -> None:
        kind = type(task)
        needs = "a container" if getattr(task, "NEEDS_CONTAINER", False) else ""
        needs = needs or (
            "tools" if kind.toolsets(task.config) or type(self._set).toolsets(self._set.config) else ""
        )
        needs = needs or ("a model judge" if getattr(task.config, "judges", None) else "")
        for func in task.hooks("reward"):
            runtime = inspect.signature(func).parameters.get("runtime")
            if runtime is not None and runtime.default is inspect.Parameter.empty:
                needs = needs or f"a runtime ({func.__name__})"
        if needs:
            raise UsageError(f"tasks of {self._name!r} need {needs}: a suite's are an answer to a prompt")


class Trace(SimpleNamespace):
    """As much of a rollout's trace as rewards of one turn read: what was asked, what was answered, and what they record.

    Args:
        asked: the conversation.
        answer: the reply.
    """

    def __init__(self, asked: Sequence[Mapping[str, str]], answer: str) -> None:
        said = [*asked, {"role": "assistant", "content": answer}]
        messages = [SimpleNamespace(**each) for each in said]
        super().__init__(
            messages=messages,
            last_message=messages[-1],
            assistant_messages=messages[-1:],
            tool_messages=[],
            last_reply=answer,
            transcript="\n\n".join(f"{each['role']}: {each['content']}" for each in said),
            num_turns=1,
            num_branches=1,
            errors=[],
            last_error=None,
            has_error=False,
            is_truncated=False,
            stop_condition=None,
            metrics={},
            rewards={},
        )
        self._told: dict[str, float] = {}

    @property
    def reward(self) -> float:
        """The sum of all rewards."""
        return math.fsum(self._told.values())

    def record_reward(self, name: str, value: float, weight: float = 1.0) -> None:
        self._told[name] = float(value) * weight
        self.rewards[name] = SimpleNamespace(score=float(value), weight=weight, value=float(value) * weight)

    def record_metric(self, name: str, value: float) -> None:
        self.metrics[name] = float(value)

    def record_metrics(self, values: Mapping[str, float]) -> None:
        self.metrics.update(values)


def _configuration(kind: type, arguments: Mapping[str, Any]) -> Any:
    """The configuration of a task set, of the type that its `__init__` or its generic base names."""
    for base in getattr(kind, "__orig_bases__", ()):
        for argument in getattr(base, "__args__", ()):
            if isinstance(argument, type) and any(
                each.__name__ == "TasksetConfig" for each in argument.__mro__
            ):
                return argument(**arguments)
    config_type = importlib.import_module("verifiers.v1").TasksetConfig
    return config_type(**arguments)


def _message(said: Any) -> dict[str, str]:
    if isinstance(said, str):
        return {"role": "user", "content": said}
    role, content = (
        (said["role"], said["content"]) if isinstance(said, Mapping) else (said.role, said.content)
    )
    if not isinstance(content, str):
        raise UsageError("a prompt has parts that are no text")
    return {"role": str(role), "content": content}


async def _called(func: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """A reward function's value, called with what its parameters name."""
    parameters = inspect.signature(func).parameters.values()
    names = {each.name for each in parameters}
    if not any(each.kind is each.VAR_KEYWORD for each in parameters):
        given = {name: value for name, value in given.items() if name in names}
    found = func(**given)
    return await found if inspect.isawaitable(found) else found
