//! Weights that stay as their file has them draw what trainable ones draw.

mod common;

use common::{create, generate, request, storable, storable_dense, with};
use moevolve_model::{Engine, WeightsMode};
use serde_json::{Value, json};

fn greedy(mode: WeightsMode, config: &Value, dtype: Option<&str>, threads: usize) -> Vec<u32> {
    let folder = tempfile::tempdir().expect("a folder");
    create(config, 1).save(folder.path(), dtype).expect("saved");
    let mut engine = Engine::load_as(folder.path(), threads, mode).expect("loaded");
    let samples = generate(&mut engine, &[request(3, 3, &[1], 20, 0.0)]);
    samples[0][0].tokens.clone()
}

#[test]
fn stored_weights_draw_what_trainable_ones_draw() {
    let tied = [
        ("tie_word_embeddings", json!(true)),
        ("attention_bias", json!(true)),
    ];
    let softmax = [
        ("model_type", json!("qwen3_moe")),
        ("moe_intermediate_size", json!(20)),
    ];
    let cases = [
        (storable(), Some("f32"), 1),
        (storable(), Some("f32"), 3),
        (storable(), Some("bf16"), 2),
        (with(storable_dense(), &tied), None, 2),
        (
            with(
                with(storable_dense(), &softmax),
                &[("num_experts", json!(6))],
            ),
            None,
            2,
        ),
    ];
    for (config, dtype, threads) in cases {
        let [trainable, stored] = [WeightsMode::Trainable, WeightsMode::Stored]
            .map(|mode| greedy(mode, &config, dtype, threads));
        assert_eq!(trainable, stored, "{config}");
        assert!(!stored.is_empty());
    }
}
