"""`plan`: what a model weighs, from its configuration alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from seed_run import run_of_the_seed

from moevolve.cli.main import main
from moevolve.journal.store import RunStore
from moevolve.models.cards import CARDS, GIB, this_machine
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.plan import RESERVED, Plan

MINIMAX_M27: dict[str, Any] = {
    "architectures": ["MiniMaxM2ForCausalLM"],
    "model_type": "minimax_m2",
    "attn_type_list": [1] * 62,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "intermediate_size": 1536,
    "max_position_embeddings": 204800,
    "mlp_intermediate_size": 8192,
    "mtp_transformer_layers": 1,
    "num_attention_heads": 48,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 62,
    "num_key_value_heads": 8,
    "num_local_experts": 256,
    "num_mtp_modules": 3,
    "qk_norm_type": "per_layer",
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "float8_e4m3fn",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"],
    },
    "rms_norm_eps": 1e-06,
    "rope_theta": 5000000,
    "rotary_dim": 64,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "scoring_func": "sigmoid",
    "shared_intermediate_size": 0,
    "tie_word_embeddings": False,
    "use_mtp": True,
    "use_qk_norm": True,
    "use_routing_bias": True,
    "vocab_size": 200064,
}
MODEL = Path(__file__).parents[1] / "fixtures" / "model" / "text" / "checkpoint"


@pytest.fixture
def released(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(MINIMAX_M27), encoding="utf-8")
    return path


def planned(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    assert main(["plan", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_released_model(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(released)]) == 0
    shown = capsys.readouterr().out
    assert "parameters        228.7 B\n" in shown
    assert "active per token  10.4 B, or 9.8 B without the vocabulary matrices\n" in shown
    assert "253,952 bytes per token in bf16" in shown
    assert "H200" in shown and max(map(len, shown.splitlines()[1:])) <= 120


def test_the_figures(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, released.parent, "--context", "32768", "--batch", "2")
    assert plan["parameters"] == 228_689_764_864
    assert plan["active_without_vocabulary"] == 9_801_359_872
    assert plan["kv_bytes_per_token"] == 253_952
    assert plan["kv_bytes"] == 253_952 * 32768 * 2
    assert 229e9 < plan["bytes"]["fp8"] < 231e9
    cards = {card["name"]: card for card in plan["memories"]}
    assert cards["RTX 4090"]["fits"] == [] and cards["H100"]["fits"] == []
    assert "q4_k" not in cards["H200"]["fits"] and cards["H200"]["longest_context"]["q4_k"] > 20_000
    assert "q4_k" in cards["MI300X"]["fits"] and "fp8" in cards["MI355X"]["fits"]


def test_what_loading_refuses_is_planned_and_said(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, released)["obstacle"] is None
    released.write_text(json.dumps({**MINIMAX_M27, "rms_norm_eps": 0}), encoding="utf-8")
    assert main(["plan", str(released)]) == 0
    shown = capsys.readouterr().out
    assert "loading refuses it" in shown and "rms_norm_eps: 0 is not a positive number" in shown
    assert "parameters        228.7 B\n" in shown


def test_room_is_memory_less_weights_less_reserve(released: Path) -> None:
    plan = Plan.of(released)
    memory = 192 * GIB
    room = plan.room("q4_k", memory, 4)
    used = plan.bytes["q4_k"] + room * 4 * plan.kv_bytes_per_token
    assert used <= memory * (1 - RESERVED) < used + 4 * plan.kv_bytes_per_token
    assert plan.room("q4_k", 1000 * GIB, 1) == plan.positions
    assert plan.room("bf16", memory, 1) == 0


def test_a_run_is_planned_as_its_champion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of_the_seed(tmp_path / "run")
    assert planned(capsys, tmp_path / "run") == planned(capsys, seed_checkpoint())


def test_a_run_without_a_champion_is_not_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunStore.create(tmp_path / "run"):
        pass
    assert main(["plan", str(tmp_path / "run")]) == 2
    assert "holds no record yet" in capsys.readouterr().err


def test_a_small_model_fits_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, MODEL)
    assert plan["context"] == plan["positions"] == 256
    assert all("f32" in card["fits"] for card in plan["memories"])
    assert [part["name"] for part in plan["parts"]][:2] == ["embeddings", "attention"]


def test_cards_are_named_once_and_the_machine_has_memory() -> None:
    assert len({card.name for card in CARDS}) == len(CARDS)
    here = this_machine()
    assert here is None or here.memory > GIB // 4


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--context", "0"], "at least 1"),
        (["--batch", "0"], "at least 1"),
        (["--context", "300000"], "takes 204800 tokens at most"),
    ],
)
def test_what_cannot_be_planned(
    released: Path, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert main(["plan", str(released), *words]) == 2
    shown = capsys.readouterr()
    assert complaint in shown.err and shown.out == ""


@pytest.mark.parametrize("text", [None, "", "[]", '{"model_type": "minimax_m2"}', '{"model_type": "gpt9"}'])
def test_a_configuration_that_is_none_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert main(["plan", str(path)]) == 2
    shown = capsys.readouterr()
    assert str(path) in shown.err and shown.err.count("\n") == 1
