"""A server that learns: feedback becomes weights that clients' other feedback and the run's skills vouch for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seed_run import run_of_the_seed
from serving import PATIENCE, Serving

from moevolve.errors import UsageError
from moevolve.gate.spending import AlphaSpending
from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import Engine
from moevolve.records import Gated, VariantAdded
from moevolve.serve.consensus import consensus_labels, train_judge_split
from moevolve.serve.deployed import FOLDER, Deployed, opened
from moevolve.serve.interactions import Feedback, Interaction, Interactions
from moevolve.serve.learner import EVENNESS, learn, spending_of
from moevolve.tasks.suite import suite

Start = Callable[..., Serving]
SKILL, LEVEL = "text/reverse", 8
CLIENTS = ("ann", "bob", "cid", "dan")
NAMED: dict[str, str | None] = {f"token-{name}": name for name in (*CLIENTS, "eve", "operator")}
PRIMER = suite("primer")


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    with opened(tmp_path / "learn", None, 1) as deployed:
        yield deployed


def accuracy(engine: Engine) -> float:
    tasks = PRIMER.sample("dev", [(SKILL, LEVEL)] * 100, "accuracy")
    told = engine.generate([task.prompt for task in tasks], max_tokens=24)
    successes = [PRIMER.grade(task, samples.text).success for task, samples in zip(tasks, told, strict=True)]
    return sum(successes) / len(successes)


def teach(deployed: Deployed, client: str, count: int, correct: Callable[[str], str]) -> None:
    """A client's prompts with its corrections."""
    kept = Interactions(deployed.store)
    for place, task in enumerate(PRIMER.sample("train", [(SKILL, LEVEL)] * count, "taught", client)):
        id = f"{client}-{place}"
        kept.keep(Interaction(id=id, client=client, at=place, prompt=task.prompt, answers=["?"], weights=""))
        kept.judge(
            Feedback(id=id, choice=0, client=client, at=place, score=0, correction=correct(task.answer or ""))
        )


def as_client(server: Serving, name: str) -> httpx2.Client:
    headers = {"authorization": f"Bearer token-{name}"}
    return httpx2.Client(base_url=server.url, headers=headers, timeout=PATIENCE)


def ask(client: httpx2.Client, prompt: str) -> dict[str, Any]:
    asked = {"prompt": prompt, "temperature": 0, "max_tokens": 24}
    answer: dict[str, Any] = client.post("/v1/completions", json=asked).json()
    return answer


@pytest.mark.long
def test_feedback_through_the_endpoints_makes_a_better_champion_that_can_be_rolled_back(
    serving: Start, deployed: Deployed
) -> None:
    server = serving(Engine.load(seed_checkpoint(), threads=1), learn=deployed, tokens=NAMED)
    before = accuracy(server.service.current.engine)
    for name in CLIENTS:
        with as_client(server, name) as client:
            for task in PRIMER.sample("train", [(SKILL, LEVEL)] * 40, "taught", name):
                answer = ask(client, task.prompt)
                right = PRIMER.grade(task, answer["choices"][0]["text"]).success
                verdict = {"score": 1} if right else {"score": 0, "correction": task.answer}
                assert client.post("/v1/feedback", json={"id": answer["id"], **verdict}).status_code == 200
    with as_client(server, "operator") as operator:
        first = ask(operator, "rev:abc=")["system_fingerprint"]
        assert operator.post("/v1/learning").status_code == 202
        assert operator.post("/v1/learning").status_code == 409
        state: dict[str, Any] = {"running": True}
        while state["running"]:
            state = operator.get("/v1/learning").json()
        assert state["champion"] == "v0001" and "promote" in state["last"], state
        assert ask(operator, "rev:abc=")["system_fingerprint"] != first
        assert accuracy(server.service.current.engine) > before + 0.15
        assert deployed.store.verify() == len(deployed.store)
        back = operator.post("/v1/rollback", json={}).json()
        assert back["champion"] == "v0000" and ask(operator, "rev:abc=")["system_fingerprint"] == first
        again = operator.post("/v1/rollback", json={"variant": "v0001"}).json()
        assert again["champion"] == "v0001"
        assert operator.post("/v1/rollback", json={"variant": "v0009"}).status_code == 409


def test_a_flood_of_false_feedback_from_one_client_does_not_pass_the_gate(deployed: Deployed) -> None:
    flooder = next(
        name
        for name in (f"eve{number}" for number in itertools.count())
        if name in train_judge_split([*_claims("ann"), *_claims(name)], 0, 1).trainers
    )
    teach(deployed, "ann", 40, lambda answer: answer)
    teach(deployed, flooder, 300, lambda answer: "z" * len(answer))
    told: list[Any] = []
    learn(deployed.store.path, 1, told.append)
    (gated,) = [record for record in told if isinstance(record, Gated)]
    (candidate,) = [record for record in told if isinstance(record, VariantAdded)]
    assert gated.decision == "discard" and gated.gain < 0
    assert candidate.weights != deployed.champion().weights
    before = spending_of(deployed.store, 0.05)
    assert gated.alpha == before.level == AlphaSpending(alpha=0.05, evenness=EVENNESS).level
    assert gated.rule == before.rule == "fallback-harmonic-1"
    deployed.record(told)
    after = spending_of(deployed.store, 0.05)
    assert after.decisions == 1 and after.level < before.level and after.spent == gated.spent
    assert deployed.champion().variant == "v0000"


def _claims(client: str) -> Any:
    kept = [Interaction(id=client, client=client, at=0, prompt=client, answers=["a"], weights="")]
    return consensus_labels(kept, [Feedback(id=client, choice=0, client=client, at=0, score=1)])


def test_one_flood_among_many_changes_little(deployed: Deployed) -> None:
    for name in CLIENTS:
        teach(deployed, name, 20, lambda answer: answer)
    teach(deployed, "eve", 500, lambda answer: "z" * len(answer))
    kept = Interactions(deployed.store)
    found = consensus_labels(kept.all(), kept.feedback())
    for cycle in range(6):
        split = train_judge_split(found, 0, cycle)
        for part in (split.train, split.judge):
            false = sum(label.supporters == ("eve",) for label in part)
            assert false <= 40


@pytest.mark.parametrize("useful", [True, False])
def test_the_runs_skills_have_a_say(tmp_path: Path, useful: bool) -> None:
    run_of_the_seed(tmp_path / "run", run_seed=5)
    with opened(tmp_path / "run", None, 1) as deployed:
        for name in CLIENTS:
            teach(deployed, name, 40, lambda answer: answer if useful else "no, never")
        told: list[Any] = []
        learn(deployed.store.path, 1, told.append)
        (gated,) = [record for record in told if isinstance(record, Gated)]
    assert gated.skills["deployed/feedback"] > 0 and "skills:" in gated.reason
    assert gated.decision == ("promote" if useful else "archive")
    # Rehearsal keeps the other skills, so that what was spoilt is told by name.
    assert ("text/reverse" in gated.vetoes) is not useful


def test_a_run_brings_its_own_model(tmp_path: Path) -> None:
    run_of_the_seed(tmp_path / "run")
    with pytest.raises(UsageError, match="its champion is served"), opened(tmp_path / "run", tmp_path, 1):
        pass


def test_too_little_feedback_is_said_and_changes_nothing(serving: Start, deployed: Deployed) -> None:
    server = serving(Engine.load(seed_checkpoint(), threads=1), learn=deployed)
    answer = ask(server.client, "rev:abc=")
    server.post("/v1/feedback", {"id": answer["id"], "score": 1, "user": "ann"})
    length = len(deployed.store)
    server.client.post("/v1/learning")
    state: dict[str, Any] = {"running": True}
    while state["running"]:
        state = server.client.get("/v1/learning").json()
    assert "not enough feedback" in state["last"] and len(deployed.store) == length


def test_a_client_sees_and_erases_its_own(serving: Start, deployed: Deployed) -> None:
    server = serving(Engine.load(seed_checkpoint(), threads=1), learn=deployed, tokens=NAMED)
    with (
        as_client(server, "ann") as ann,
        as_client(server, "eve") as eve,
        as_client(server, "operator") as op,
    ):
        id = ask(ann, "rev:abc=")["id"]
        ask(eve, "rev:abd=")
        (row,) = ann.get("/v1/interactions").json()["data"]
        assert (row["id"], row["client"], row["prompt"]) == (id, "ann", "rev:abc=")
        assert len(op.get("/v1/interactions").json()["data"]) == 2
        assert eve.delete(f"/v1/interactions/{id}").status_code == 404
        assert eve.delete("/v1/interactions?client=ann").status_code == 403
        assert eve.post("/v1/learning").status_code == 403
        assert eve.post("/v1/rollback", json={}).status_code == 403
        assert ann.delete(f"/v1/interactions/{id}").json() == {"erased": 1}
        assert ann.get("/v1/interactions").json()["data"] == []
        assert ann.post("/v1/feedback", json={"id": id, "score": 1}).status_code == 404
        assert op.delete("/v1/interactions").json() == {"erased": 1}


@pytest.mark.parametrize("wrong", [{"score": 2}, {"score": "good"}, {"score": 1, "correction": ""}, {}])
def test_wrong_feedback_is_named(serving: Start, deployed: Deployed, wrong: dict[str, Any]) -> None:
    server = serving(Engine.load(seed_checkpoint(), threads=1), learn=deployed)
    assert server.post("/v1/feedback", {"id": "x", **wrong}).status_code == 400


def test_nothing_is_kept_unless_asked_for(serving: Start, seed_model: Engine) -> None:
    server = serving(seed_model)
    answer = ask(server.client, "rev:abc=")
    assert server.service.keep is None
    assert server.post("/v1/feedback", {"id": answer["id"], "score": 1}).status_code == 404
    assert server.client.get("/v1/interactions").status_code == 404


def test_lessons_go_with_what_they_came_from(deployed: Deployed) -> None:
    from moevolve.serve.learning import erase

    for name in ("ann", "bob"):
        teach(deployed, name, 10, lambda answer: answer)
    learn(deployed.store.path, 1, lambda _: None)
    with MemoryStore(memory_folder(deployed.store.path)) as memory:
        assert memory.count() == 10
    assert erase(deployed, Interactions(deployed.store), None, None) == 20
    with MemoryStore(memory_folder(deployed.store.path)) as memory:
        assert memory.count() == 0


def test_the_next_server_goes_on_with_the_champion(tmp_path: Path) -> None:
    with opened(tmp_path / "learn", None, 1) as first:
        for name in CLIENTS:
            teach(first, name, 40, lambda answer: answer)
        told: list[Any] = []
        learn(first.store.path, 1, told.append)
        first.record(told)
        assert first.champion().variant == "v0001"
    with opened(tmp_path / "learn", None, 1) as second:
        assert second.store.path.name == FOLDER
        assert second.champion().variant == "v0001" and second.cycles == 1
        assert second.engine(second.champion()).weights_hash == second.champion().weights


def test_a_servers_decisions_share_one_error_budget_that_outlives_its_restarts(tmp_path: Path) -> None:
    def decision(cycle: int, outcome: str, rule: str = "fallback-harmonic-1") -> Gated:
        return Gated(
            cycle=cycle,
            level="weights",
            candidate=f"v{cycle:04d}",
            champion="v0000",
            decision=outcome,  # type: ignore[arg-type]
            reason="",
            n=1,
            wins=0,
            losses=0,
            gain=0.0,
            evidence=0.0,
            alpha=0.05,
            skills={},
            tokens=0,
            rule=rule,
        )

    levels = []
    for cycle in range(1, 40):
        with opened(tmp_path / "served", None, 1) as deployed:
            levels.append(spending_of(deployed.store, 0.05).level)
            # Every fifth candidate passes, and costs nothing; those of an older version had no budget.
            deployed.record(
                [decision(cycle, "archive" if cycle % 5 else "promote"), decision(100, "discard", "")]
            )
    failed = [level for cycle, level in enumerate(levels, 1) if cycle % 5]
    assert sum(failed) < 0.05 and failed == sorted(failed, reverse=True)
    assert levels[5] == levels[4] < levels[3]
