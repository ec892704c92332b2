//! Weights that stay as their file has them draw what trainable ones draw.

mod common;

use common::{create, generate, ids, request, storable, storable_dense, with};
use moevolve_generate::{Sampling, Scheduler};
use moevolve_model::backend::Backend;
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

/// One sample's tokens and their log-probabilities.
fn drawn(engine: &mut Engine, scheduler: &Scheduler, prompt: &[u32]) -> (Vec<u32>, Vec<f32>) {
    let sampling = Sampling {
        max_tokens: 40,
        ..Sampling::default()
    };
    scheduler.add(prompt, &[1], sampling).expect("good");
    let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
    while scheduler.busy() + scheduler.waiting() > 0 {
        for event in scheduler.step(engine) {
            tokens.extend(event.drawn.tokens);
            logprobs.extend(event.drawn.logprobs);
        }
    }
    (tokens, logprobs)
}

/// ggml adds up otherwise what comes as a prompt and what comes token by token.
#[test]
fn what_a_gguf_file_drew_is_read_again_where_a_prompt_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = with(storable_dense(), &[("eos_token_id", json!(null))]);
    let file = folder.path().join("model.gguf");
    create(&config, 1).save(&file, Some("f32")).expect("saved");
    let mut engine = Engine::load_as(&file, 1, WeightsMode::Stored).expect("loaded");
    let block = engine.with_cpu(|cpu| cpu.block_bytes());
    let scheduler = Scheduler::of(&engine, 4, 0).expect("a scheduler");
    let prompt = ids(3, 20);
    let (answer, _) = drawn(&mut engine, &scheduler, &prompt);
    // Of 59 tokens that were read, the sixteen that are whole blocks of the prompt.
    assert_eq!(scheduler.memory().used, block);

    let next = [&prompt[..], &answer, &[5, 6]].concat();
    let warm = drawn(&mut engine, &scheduler, &next);
    let fresh = Scheduler::of(&engine, 4, 0).expect("a scheduler");
    assert_eq!(warm, drawn(&mut engine, &fresh, &next));
}
