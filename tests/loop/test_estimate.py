"""What a run will take: the arithmetic from a configuration to tokens."""

from pathlib import Path

import msgspec
import pytest

from moevolve.config import Config
from moevolve.loop.estimate import engine as estimates
from moevolve.loop.estimate.work import Lengths, Speed, Work, work_of
from moevolve.tasks.suite import suite

LENGTHS = Lengths(prompt=10.0, answer=2.0, longest=14)
THREE = suite("primer").only(["text/sort", "number/add", "text/reverse"], levels=(1, 2))


def config(**settings: object) -> Config:
    base = {"suite.levels": [1, 2], "suite.sealed_per_cell": 5, "wording.style": "chat"}
    return Config.load("real", base | settings)


def test_both_sealed_scores_ask_every_task_once_or_a_little_more() -> None:
    ends, _ = work_of(config(), LENGTHS, THREE)
    tasks = 2 * 3 * 2 * 5
    assert tasks * LENGTHS.prompt <= ends.read <= 2 * tasks * LENGTHS.prompt
    assert ends.trained == 0


def test_training_reads_whole_sequences() -> None:
    _, (least, most) = work_of(config(**{"learn.steps": 7, "learn.batch": 3}), LENGTHS, THREE)
    assert least.trained == most.trained == 7 * 3 * 12


def test_an_arm_that_does_not_learn_trains_nothing() -> None:
    _, (least, _) = work_of(config(arm="program"), LENGTHS, THREE)
    assert least.trained == 0


def test_a_later_decision_of_the_gate_takes_longer() -> None:
    _, (least, most) = work_of(config(**{"gate.min_n": 10, "gate.max_n": 100}), LENGTHS, THREE)
    assert most.read > least.read


@pytest.mark.parametrize(
    "key", ["attempts.tasks", "evolve.candidates", "evolve.screen", "roles.improver.requests"]
)
def test_more_of_anything_is_more_work(key: str) -> None:
    _, (less, _) = work_of(config(**{key: 5}), LENGTHS, THREE)
    _, (more, _) = work_of(config(**{key: 50}), LENGTHS, THREE)
    assert more.read > less.read


def test_time_is_the_sum_of_each_kind_of_work_at_its_speed() -> None:
    speed = Speed(read=100.0, drawn=10.0, trained=50.0)
    assert speed.seconds(Work(read=100.0, drawn=20.0, trained=150.0)) == pytest.approx(6.0)


def test_what_this_machine_can_give_is_told() -> None:
    there = estimates.available()
    assert there is None or there > 0


def test_an_estimate_is_kept_beside_a_run_and_missing_where_none_was_made(tmp_path: Path) -> None:
    assert estimates.load(tmp_path) is None
    made = estimates.Estimate(
        minutes=(1.0, 2.0),
        cycle_minutes=(0.5, 1.0),
        cycles=2,
        memory={"base weights": 2**30},
        speed=Speed(read=1000.0, drawn=100.0, trained=50.0),
        lengths=LENGTHS,
    )
    estimates.save(made, tmp_path)
    assert estimates.load(tmp_path) == made
    assert made.sentence().startswith("Estimated: 2 cycles in 1 to 2 minutes, 1.0 GiB of memory")
    one = msgspec.structs.replace(made, cycles=1)
    assert "1 cycle in" in one.sentence()


def test_generalisation_is_scored_at_the_end() -> None:
    ends, (least, _) = work_of(config(), LENGTHS, THREE)
    more, (same, _) = work_of(config(**{"generalise.per_cell": 2}), LENGTHS, THREE)
    assert more.read > ends.read and same == least
