//! The whole model's gradient: against finite differences of its own loss, for every tensor, at awkward sizes.

mod common;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use common::{
    adapted, batch, create, families, gpt_oss, odd, put, qwen3_5_moe, storable, storable_dense,
    stored, tensors, values, with,
};
use moevolve_kernels::Isa;
use moevolve_model::Engine;
use serde_json::json;

fn norm(x: &[f32]) -> f64 {
    x.iter()
        .map(|&x| f64::from(x) * f64::from(x))
        .sum::<f64>()
        .sqrt()
}

/// Slopes of the loss along `direction` in the tensor `name`, by central differences of three lengths.
fn slopes(
    engine: &mut Engine,
    start: &HashMap<String, Tensor>,
    name: &str,
    direction: &[f32],
) -> [f64; 3] {
    let mut loss = |length: f64| {
        let scale = length / norm(direction);
        let mut moved = values(&start[name]);
        for (x, d) in moved.iter_mut().zip(direction) {
            *x += (scale * f64::from(*d)) as f32;
        }
        let mut tensors = start.clone();
        let moved =
            Tensor::from_vec(moved, start[name].dims(), &Device::Cpu).expect("the same shape");
        tensors.insert(name.to_owned(), moved);
        put(engine, &tensors);
        engine.gradients(&batch()).expect("a good batch").0
    };
    [2e-3, 6e-4, 2e-4].map(|step| (loss(step) - loss(-step)) / (2.0 * step))
}

/// Whether one of the slopes is the gradient's length: a step may flip the selection of a token on the edge, where
/// the loss jumps, and then a shorter one counts.
fn agrees(slopes: &[f64], length: f64) -> bool {
    slopes
        .iter()
        .any(|slope| (slope - length).abs() < 0.01 * length)
}

/// Every tensor of one model.
fn matches_finite_differences(name: &str) {
    let config = families().into_iter().find(|(known, _)| *known == name);
    trains_by_its_slopes(create(&config.expect("a known family").1, 1));
}

/// Every tensor that trains of one engine.
fn trains_by_its_slopes(mut engine: Engine) {
    let start = tensors(&engine);
    let (_, gradients) = engine.gradients(&batch()).expect("a good batch");
    let mut compared = 0;
    for (name, gradient) in &gradients {
        let gradient = values(gradient);
        let length = norm(&gradient);
        assert!(
            length.is_finite() && length > 0.0,
            "{name}: a gradient of {length}"
        );
        // An expert that few tokens choose has too small a gradient for differences of an f32 loss.
        if length > 0.03 {
            compared += 1;
            let slopes = slopes(&mut engine, &start, name, &gradient);
            assert!(
                agrees(&slopes, length),
                "{name}: gradient {length}, differences {slopes:?}"
            );
        }
    }
    assert!(
        compared > gradients.len() / 2,
        "only {compared} of {}",
        gradients.len()
    );
}

#[test]
fn sigmoid_router_and_whole_norms_match_finite_differences() {
    matches_finite_differences("minimax_m2");
}

#[test]
fn normalised_softmax_and_norms_a_head_match_finite_differences() {
    matches_finite_differences("qwen3_moe");
}

#[test]
fn softmax_biases_and_yarn_match_finite_differences() {
    matches_finite_differences("qwen3_moe with biases");
}

#[test]
fn softmax_and_whole_norms_match_finite_differences() {
    matches_finite_differences("olmoe");
}

#[test]
fn softmax_without_norms_matches_finite_differences() {
    matches_finite_differences("mixtral");
}

#[test]
fn dense_blocks_match_finite_differences() {
    matches_finite_differences("llama");
    matches_finite_differences("llama with biases");
    matches_finite_differences("qwen3");
}

#[test]
fn windows_match_finite_differences() {
    matches_finite_differences("mistral");
    matches_finite_differences("mixtral that slides");
    matches_finite_differences("qwen2");
}

#[test]
fn sinks_clamped_gates_and_biases_of_experts_match_finite_differences() {
    matches_finite_differences("gpt_oss");
    trains_by_its_slopes(adapted(create(&gpt_oss(), 1), 3));
    let storable = with(gpt_oss(), &[("head_dim", json!(16))]);
    trains_by_its_slopes(adapted(stored(&storable, "f32", 1), 2));
}

#[test]
fn linear_attention_matches_finite_differences() {
    matches_finite_differences("qwen3_5_moe");
    matches_finite_differences("qwen3_5_moe with a linear end");
    let config = qwen3_5_moe(["linear_attention", "full_attention"]);
    trains_by_its_slopes(adapted(create(&config, 1), 3));
}

#[test]
fn adapters_of_experts_match_finite_differences() {
    trains_by_its_slopes(adapted(create(&odd(), 1), 3));
}

#[test]
fn adapters_of_dense_blocks_match_finite_differences() {
    let config = families()
        .into_iter()
        .find(|(known, _)| *known == "llama with biases");
    trains_by_its_slopes(adapted(create(&config.expect("a known family").1, 1), 2));
}

#[test]
fn adapters_of_stored_weights_match_finite_differences() {
    for (config, dtype) in [(storable(), "f32"), (storable_dense(), "bf16")] {
        trains_by_its_slopes(adapted(stored(&config, dtype, 1), 3));
    }
}

#[test]
fn all_trained_tensors_and_only_they_have_gradients() {
    for (family, config) in families() {
        for tied in [false, true] {
            let config = with(config.clone(), &[("tie_word_embeddings", json!(tied))]);
            let mut engine = create(&config, 1);
            let (_, gradients) = engine.gradients(&batch()).expect("a good batch");
            let numbers: usize = gradients
                .iter()
                .map(|(_, tensor)| tensor.elem_count())
                .sum();
            assert_eq!(numbers, engine.parameters(), "{family}");
            assert_eq!(numbers as f64, engine.config().parameters(), "{family}");
            assert_eq!(
                gradients.iter().any(|(name, _)| name == "lm_head.weight"),
                !tied
            );
            for (name, gradient) in &gradients {
                let gradient = values(gradient);
                assert!(
                    gradient.iter().all(|x| x.is_finite()) && gradient.iter().any(|&x| x != 0.0),
                    "{family}: {name}"
                );
            }
        }
    }
}

#[test]
fn a_tied_head_adds_its_gradient_to_the_embedding() {
    let config = with(odd(), &[("tie_word_embeddings", json!(true))]);
    let name = "model.embed_tokens.weight";
    let mut engine = create(&config, 1);
    let start = tensors(&engine);
    let (_, gradients) = engine.gradients(&batch()).expect("a good batch");
    let gradient = gradients
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, g)| values(g))
        .expect("there");
    let slopes = slopes(&mut engine, &start, name, &gradient);
    assert!(agrees(&slopes, norm(&gradient)), "{slopes:?}");
}

#[test]
fn gradients_are_the_same_bits_on_every_instruction_set_and_thread_count() {
    for (family, config) in families() {
        let print = |isa: Isa, threads| {
            let mut engine = create(&config, threads);
            engine.set_isa(isa);
            let (loss, gradients) = engine.gradients(&batch()).expect("a good batch");
            let bits = gradients
                .iter()
                .flat_map(|(_, g)| values(g))
                .map(f32::to_bits);
            (loss.to_bits(), bits.collect::<Vec<_>>())
        };
        let scalar = print(Isa::SCALAR, 1);
        for isa in Isa::available() {
            for threads in [1, 3] {
                assert!(
                    print(isa, threads) == scalar,
                    "{family}: {isa} on {threads} threads"
                );
            }
        }
    }
}

#[test]
fn one_example_split_from_its_batch_gives_its_share() {
    let mut engine = create(&odd(), 1);
    let whole = batch();
    let mass = |e: &moevolve_model::Example| f64::from(e.weight) * e.answer_tokens() as f64;
    let total: f64 = whole.iter().map(mass).sum();
    let (loss, _) = engine.gradients(&whole).expect("a good batch");
    let parts: f64 = whole
        .iter()
        .map(|example| {
            let alone = std::slice::from_ref(example);
            engine.gradients(alone).expect("a good example").0 * mass(example) / total
        })
        .sum();
    assert!((loss - parts).abs() < 1e-6, "{loss} {parts}");
}
