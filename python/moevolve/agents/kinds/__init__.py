"""The kinds of requests that a program may make; see `gateway`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moevolve.agents.gateway import Kind
from moevolve.agents.kinds.evaluate import Evaluate
from moevolve.agents.kinds.generate import Generate
from moevolve.agents.kinds.memory import RecallLessons, Remember
from moevolve.agents.kinds.tools import CallTool, FindTools, Toolbox
from moevolve.agents.kinds.workspace import WorkspaceFiles
from moevolve.protocol.requests import Answer, Recall
from moevolve.tasks.cutters import Cutter


def table(
    answer: Answer | None,
    recall: Recall | None,
    tools: Toolbox | None,
    cutters: Mapping[str, Cutter],
    *,
    lenient: bool,
) -> dict[str, Kind[Any, Any]]:
    """The kinds of one call; see `Generate` for `lenient`."""
    return {
        "generate": Generate(answer, lenient=lenient),
        "evaluate": Evaluate(answer, recall, cutters),
        "recall": RecallLessons(recall),
        "remember": Remember(on=recall is not None),
        "call": CallTool(tools),
        "tools": FindTools(tools),
        "workspace": WorkspaceFiles(),
    }
