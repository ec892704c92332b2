//! Weights that stay as their file has them answer as trainable ones do.

mod common;

use common::{create, odd, with};
use moevolve_model::{Engine, WeightsMode};
use serde_json::json;

fn logits(engine: &mut Engine) -> Vec<f32> {
    let rows = [vec![1, 5, 9, 30, 2, 8, 8], vec![4], vec![7, 7, 3]];
    engine.logits(&rows).expect("logits").values
}

#[test]
fn stored_weights_answer_as_trainable_ones() {
    let config = with(
        odd(),
        &[("head_dim", json!(16)), ("num_attention_heads", json!(4))],
    );
    for (dtype, threads) in [("f32", 1), ("f32", 3), ("bf16", 2)] {
        let folder = tempfile::tempdir().expect("a folder");
        create(&config, 1)
            .save(folder.path(), Some(dtype))
            .expect("saved");
        let load = |keep| Engine::load_as(folder.path(), threads, keep).expect("loaded");
        let (mut trained, mut stored) = (load(WeightsMode::Trainable), load(WeightsMode::Stored));
        let (expected, found) = (logits(&mut trained), logits(&mut stored));
        for (a, b) in expected.iter().zip(&found) {
            assert!(a.is_nan() && b.is_nan() || (a - b).abs() < 1e-4, "{a} {b}");
        }
        assert_eq!(trained.fingerprint(), stored.fingerprint());
    }
}

#[test]
fn families_without_routers_or_with_biases_stay_stored_too() {
    let dense = json!({
        "model_type": "llama", "vocab_size": 37, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 200, "eos_token_id": 3, "initializer_range": 0.3,
        "attention_bias": true, "tie_word_embeddings": true,
    });
    let softmax = json!({
        "model_type": "qwen3_moe", "vocab_size": 37, "hidden_size": 32, "moe_intermediate_size": 20,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "num_experts": 6, "num_experts_per_tok": 2, "norm_topk_prob": true,
        "max_position_embeddings": 200, "eos_token_id": 3, "initializer_range": 0.3,
    });
    for config in [dense, softmax] {
        let folder = tempfile::tempdir().expect("a folder");
        create(&config, 1).save(folder.path(), None).expect("saved");
        let load = |keep| Engine::load_as(folder.path(), 2, keep).expect("loaded");
        let (mut trained, mut stored) = (load(WeightsMode::Trainable), load(WeightsMode::Stored));
        for (a, b) in logits(&mut trained).iter().zip(&logits(&mut stored)) {
            assert!(a.is_nan() && b.is_nan() || (a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}

#[test]
fn stored_weights_are_the_same_bits_on_any_number_of_threads() {
    let config = with(odd(), &[("head_dim", json!(16))]);
    let folder = tempfile::tempdir().expect("a folder");
    create(&config, 1).save(folder.path(), None).expect("saved");
    let on = |threads| {
        let mut engine =
            Engine::load_as(folder.path(), threads, WeightsMode::Stored).expect("loaded");
        logits(&mut engine)
            .iter()
            .map(|x| x.to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(on(1), on(4));
}

#[test]
fn stored_weights_refuse_to_change_and_say_how_to_load_others() {
    let config = with(odd(), &[("head_dim", json!(16))]);
    let folder = tempfile::tempdir().expect("a folder");
    create(&config, 1).save(folder.path(), None).expect("saved");
    let mut engine = Engine::load_as(folder.path(), 1, WeightsMode::Stored).expect("loaded");
    let refused = engine
        .train_step(&common::batch(), 1e-3, false)
        .expect_err("refused");
    assert!(
        refused.to_string().contains("weights=\"trainable\""),
        "{refused}"
    );
    assert!(refused.is_usage());
}

#[test]
fn heads_that_no_vector_fills_cannot_stay_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    create(&odd(), 1).save(folder.path(), None).expect("saved");
    let refused = Engine::load_as(folder.path(), 1, WeightsMode::Stored)
        .err()
        .expect("refused");
    assert!(refused.to_string().contains("head_dim"), "{refused}");
}
