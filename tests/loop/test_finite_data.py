"""What a run says beforehand about a suite of few tasks."""

from types import SimpleNamespace

import pytest

from moevolve.gate.spending import AlphaSpending
from moevolve.loop.stages.gate import finite_data


@pytest.mark.parametrize(
    ("few", "n", "detail"),
    [
        ({"my/evals": 30}, 30, "30 gate tasks in whole rounds of skills cannot show less than +0.43"),
        ({"my/evals": 4}, 4, "4 gate tasks in whole rounds of skills show no gain at all"),
    ],
)
def test_few_tasks_are_told_with_the_gain_that_they_can_show(
    few: dict[str, int], n: int, detail: str
) -> None:
    run = SimpleNamespace(
        skills=sorted(few), few_tasks=few, state=SimpleNamespace(spending=AlphaSpending(alpha=0.05))
    )
    guard = finite_data(run)  # type: ignore[arg-type]
    assert guard.checked == n
    assert guard.detail.startswith(detail)
