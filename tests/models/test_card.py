"""Engines on a card, whose driver runs the kernels on the processor: loaded, drawn from, trained, adapted, served, kept."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
from pathlib import Path

import pytest
from serving import Serving

from moevolve.config import Config
from moevolve.errors import CapacityError, UsageError
from moevolve.loop import resolve
from moevolve.models import device
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import Engine
from moevolve.protocol.completion import Samples
from moevolve.protocol.sampling import Sampling
from moevolve.protocol.training import Example, Rollout

ROOT = Path(__file__).parents[2]
PROMPTS = ["12+30=", "add 7 8", "reverse abc"]

pytestmark = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "c++")) is None, reason="needs a C++ compiler"
)


@pytest.fixture
def card(twin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the card and its kernels."""
    monkeypatch.setattr(device, "DRIVER", str(twin / "libcuda.so.1"))
    monkeypatch.setattr(device, "kernels", lambda: twin)
    monkeypatch.setattr(device, "cards", lambda: device.Cards(13000, ("Twin",), ((9, 0),)))
    return twin


@pytest.fixture
def pair(card: Path) -> tuple[Engine, Engine]:
    """The shipped seed on the processor and on the card."""
    here = Engine.load(seed_checkpoint(), threads=1)
    there = Engine.load(seed_checkpoint(), threads=1, device="cuda:0")
    assert (here.device, there.device) == ("cpu", "cuda:0")
    return here, there


def examples(engine: Engine) -> list[Example]:
    return [
        Example(tokens=engine.native.encode(text) + engine.eos[:1], start=start)
        for text, start in [("12+30=42", 6), ("7+8=15", 4)]
    ]


def tokens(drawn: list[Samples]) -> list[list[list[int]]]:
    return [[one.tokens for one in samples] for samples in drawn]


def test_greedy_and_drawn_texts_are_the_same(pair: tuple[Engine, Engine]) -> None:
    for temperature in (0.0, 1.0):
        sampling = Sampling(max_tokens=6, temperature=temperature)
        here, there = (engine.generate(PROMPTS, n=2, sampling=sampling) for engine in pair)
        assert tokens(there) == tokens(here)


def test_a_step_and_what_is_kept_of_it_are_the_same(pair: tuple[Engine, Engine], tmp_path: Path) -> None:
    here, there = pair
    assert here.weights_hash == there.weights_hash
    batch = examples(here)
    ours, theirs = (engine.native.train_step(batch, 1e-3, True) for engine in pair)
    assert theirs.loss == pytest.approx(ours.loss, rel=1e-5)
    assert theirs.gradient_norm == pytest.approx(ours.gradient_norm, rel=1e-4)
    assert theirs.expert_load == ours.expert_load
    there.save_training(tmp_path / "training", "state")
    there.write_weights(tmp_path / "weights.safetensors")
    here.read_weights(tmp_path / "weights.safetensors")
    assert here.weights_hash == there.weights_hash
    again = Engine.load(seed_checkpoint(), threads=1)
    assert again.load_training(tmp_path / "training") == "state"
    assert again.weights_hash == there.weights_hash


@pytest.mark.long
def test_rollouts_and_an_adapter_train_there(pair: tuple[Engine, Engine]) -> None:
    batch = [
        Rollout(
            tokens=one.tokens, start=one.start, advantage=0.5, logprobs=[-1.0] * (len(one.tokens) - one.start)
        )
        for one in examples(pair[0])
    ]
    for engine in pair:
        engine.adapt(4, 8.0, ["q_proj", "down_proj"], seed=3)
    reports = []
    for engine in pair:
        engine.native.policy_step(batch, 1e-2, "grpo", 0.2, 0.28, 0.0, 0, False)
        reports.append(engine.native.policy_step(batch, 1e-2, "grpo", 0.2, 0.28, 0.0, 0, False))
    ours, theirs = reports
    assert theirs.loss == pytest.approx(ours.loss, rel=1e-4, abs=1e-6)
    assert ours.policy is not None and theirs.policy is not None
    assert theirs.policy.ratio == pytest.approx(ours.policy.ratio, rel=1e-4)


def test_a_copy_goes_its_own_way_and_an_engine_comes_back(pair: tuple[Engine, Engine]) -> None:
    here, there = pair
    copy = there.clone()
    copy.native.train_step(examples(here), 1e-2, False)
    assert copy.weights_hash != there.weights_hash == here.weights_hash
    copy.to("cpu")
    there.to("cpu")
    assert copy.device == there.device == "cpu"
    assert there.weights_hash == here.weights_hash
    here.to("cuda")
    assert here.device == "cuda:0"


def test_a_server_answers_from_a_card(pair: tuple[Engine, Engine]) -> None:
    asked = {"prompt": PROMPTS, "max_tokens": 5, "temperature": 1.0, "seed": 3}
    answers = []
    for engine in pair:
        server = Serving(engine)
        try:
            answers.append(server.client.post("/v1/completions", json=asked).json()["choices"])
        finally:
            server.stop()
    assert len(answers[0]) == len(PROMPTS)
    assert answers[1] == answers[0]


def test_auto_takes_the_card_unless_it_does_not_run_the_network(card: Path) -> None:
    assert Engine.load(seed_checkpoint(), threads=1, device="auto").device == "cuda:0"
    gpt_oss = ROOT / "tests" / "fixtures" / "model" / "gpt_oss" / "checkpoint"
    assert Engine.load(gpt_oss, threads=1, device="auto").device == "cpu"
    with pytest.raises(
        UsageError, match="gpt_oss does not run on cards here: no kernel for cards computes attention sinks"
    ):
        Engine.load(gpt_oss, threads=1, device="cuda:0")


def test_auto_stays_where_a_card_has_too_little_shared_memory(
    card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWIN_DRIVER_SHARED", "6500")
    assert Engine.load(seed_checkpoint(), threads=1, device="auto").device == "cpu"
    with pytest.raises(UsageError, match=r"the choice among so many experts \(num_experts"):
        Engine.load(seed_checkpoint(), threads=1, device="cuda:0")


def test_engines_that_leave_give_the_card_back(card: Path) -> None:
    # Engines of earlier tests are nobody's.
    gc.collect()
    library = ctypes.CDLL(str(card / "libcuda.so.1"))
    alive = (ctypes.c_int * 4)()
    library.twin_driver_alive(alive)
    before = list(alive)
    engine = Engine.load(seed_checkpoint(), threads=1)
    for _ in range(20):
        engine.to("cuda:0")
        library.twin_driver_alive(alive)
        assert list(alive)[:3] == [one + 1 for one in before[:3]]
        engine.to("cpu")
    library.twin_driver_alive(alive)
    assert list(alive) == before


def test_a_run_records_the_card(card: Path) -> None:
    config = Config.load("small", {"policy.device": "auto"})
    engine = resolve.engine(config)
    assert resolve.settled(config, engine).policy.device == engine.device == "cuda:0"
    assert engine.precision == "bf16"


def test_an_adapter_of_a_run_computes_in_f32(card: Path) -> None:
    config = Config.load("small", {"policy.device": "cuda", "learn.method": "lora"})
    assert resolve.engine(config).precision == "f32"
    with pytest.raises(UsageError, match="an adapter on a card computes in f32"):
        resolve.engine(
            Config.load(
                "small", {"policy.device": "cuda", "learn.method": "lora", "policy.precision": "bf16"}
            )
        )


def test_kernels_of_another_version_are_refused(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "twin.fatbin").write_bytes(b"anything")
    (tmp_path / "sources.txt").write_text("0123456789abcdef")
    monkeypatch.setattr(device, "kernels", lambda: tmp_path)
    with pytest.raises(UsageError, match="are of another version than this engine"):
        Engine.load(seed_checkpoint(), device="cuda:0")


def test_a_network_that_does_not_fit_is_told_with_both_figures(
    pair: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = pair
    expected = here.generate(PROMPTS[:1], max_tokens=3)[0].tokens
    monkeypatch.setenv("TWIN_DRIVER_ROOM", "2000000")
    with pytest.raises(CapacityError, match=r"out of device memory: \d+ bytes were asked for, \d+ are free"):
        here.to("cuda:0")
    # One that ran out half-way through a batch has lost nothing but the batch.
    with pytest.raises(CapacityError, match="out of device memory"):
        there.native.train_step(examples(here), 1e-2, False)
    with pytest.raises(CapacityError, match="out of device memory"):
        there.generate(PROMPTS, max_tokens=3)
    assert there.weights_hash == here.weights_hash
    monkeypatch.delenv("TWIN_DRIVER_ROOM")
    assert here.device == "cpu"
    for engine in pair:
        assert engine.generate(PROMPTS[:1], max_tokens=3)[0].tokens == expected
