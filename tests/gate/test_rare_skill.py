"""A rare skill over a run's cycles: training on all else costs it a little each time, and the gate keeps the sum small.

Scores are simulated: each cycle's candidate is better at all other skills and a little worse at one that gets hardly any
attempts, and so cannot be rehearsed by them. `benches/rare_skill.py` shows the same of whole runs.
"""

from __future__ import annotations

from random import Random

import pytest

from moevolve.gate.betting import Paired, PairedGate
from moevolve.gate.confirmed import begin, elsewhere, promoted

RARE = "rare"
SKILLS = [RARE, "b", "c", "d"]
CYCLES, MARGIN = 14, 0.05

Success = dict[str, float]


def scores(
    gate: PairedGate, candidate: Success, champion: Success, holders: dict[str, Success], draw: Random
) -> None:
    """Paired scores until the gate has decided: both sides meet the same task."""
    while gate.verdict.decision is None:
        batch = []
        for want in gate.wants():
            other = holders[want.skill] if want.best else champion
            for _ in range(want.n):
                hardness = draw.random()
                won, lost = (float(hardness < each[want.skill]) for each in (candidate, other))
                batch.append(Paired(want.skill, won, lost, want.best))
        gate.update(batch)


def run(seed: int, margin: float, loss: float = 0.02) -> tuple[float, int]:
    """The rare skill's success after the cycles, and the promotions."""
    draw = Random(seed)
    variants: dict[str, Success] = {"v0": dict.fromkeys(SKILLS, 0.3) | {RARE: 0.9}}
    champion, levels, promotions = "v0", begin(SKILLS, "v0"), 0
    for cycle in range(1, CYCLES + 1):
        before = variants[champion]
        name = f"v{cycle}"
        variants[name] = {skill: min(0.95, success + 0.05) for skill, success in before.items()}
        variants[name][RARE] = before[RARE] - loss
        held = elsewhere(levels, champion)
        gate = PairedGate(0.01, margin, 96, 3072, SKILLS, confirm_n=6144, batch=96, best=list(held))
        holders = {skill: variants[variant] for skill, variant in held.items()}
        scores(gate, variants[name], before, holders, draw)
        if gate.verdict.decision == "promote":
            levels = promoted(levels, gate, name, champion)
            champion, promotions = name, promotions + 1
    return variants[champion][RARE], promotions


@pytest.mark.parametrize("seed", range(1, 6))
def test_small_losses_of_a_rare_skill_stay_within_the_margin_over_all_cycles(seed: int) -> None:
    after, promotions = run(seed, MARGIN)
    assert after >= 0.9 - MARGIN
    assert promotions >= 1, "what harms nothing beyond the margin still passes"


@pytest.mark.parametrize("seed", range(1, 6))
def test_without_the_gates_protection_they_add_up(seed: int) -> None:
    after, promotions = run(seed, 0.99)
    assert after < 0.9 - 2 * MARGIN
    assert promotions > 4
