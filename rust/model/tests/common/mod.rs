//! Tiny models for the tests, and their weights changed through files, as a user would.

#![allow(dead_code)] // Each test crate uses a part.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use moevolve_model::adapter::TARGETS;
use moevolve_model::{AdapterSettings, Engine, Example, Optimizer, Positions, WeightsMode};
use serde_json::{Map, Value, json};

/// Sizes of which none fills a vector, with grouped heads, half of each head rotated, and three experts a token.
pub fn odd() -> Value {
    json!({
        "model_type": "minimax_m2", "vocab_size": 37, "hidden_size": 20, "intermediate_size": 12,
        "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 6,
        "num_local_experts": 5, "num_experts_per_tok": 3, "max_position_embeddings": 200, "eos_token_id": 3,
        "initializer_range": 0.3, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.67},
    })
}

pub fn with(mut config: Value, changes: &[(&str, Value)]) -> Value {
    let fields: &mut Map<String, Value> = config
        .as_object_mut()
        .expect("a configuration is an object");
    for (key, value) in changes {
        fields.insert((*key).to_owned(), value.clone());
    }
    config
}

/// The same sizes in every other family, each with what only it has.
pub fn families() -> Vec<(&'static str, Value)> {
    let family = |name: &str, rope: Value, changes: &[(&str, Value)]| {
        let mut config = with(
            odd(),
            &[("model_type", json!(name)), ("rope_parameters", rope)],
        );
        config = with(config, changes);
        config
    };
    let plain = json!({"rope_type": "default", "rope_theta": 10000.0});
    let yarn = json!({
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 50,
    });
    let llama3 = json!({
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
    });
    let biased = ("attention_bias", json!(true));
    let normalised = ("norm_topk_prob", json!(true));
    let inner = ("moe_intermediate_size", json!(12));
    let tied = ("tie_word_embeddings", json!(true));
    vec![
        ("minimax_m2", odd()),
        (
            "qwen3_moe",
            family(
                "qwen3_moe",
                plain.clone(),
                &[inner.clone(), normalised.clone()],
            ),
        ),
        (
            "qwen3_moe with biases",
            family("qwen3_moe", yarn, &[inner, biased.clone()]),
        ),
        ("olmoe", family("olmoe", plain.clone(), &[])),
        (
            "olmoe normalised",
            family("olmoe", plain.clone(), &[normalised, biased.clone()]),
        ),
        ("mixtral", family("mixtral", plain.clone(), &[])),
        ("llama", family("llama", plain.clone(), &[])),
        (
            "llama with biases",
            family("llama", llama3, &[biased, tied]),
        ),
        ("qwen3", family("qwen3", plain.clone(), &[])),
        (
            "mistral",
            family(
                "mistral",
                plain.clone(),
                &[("sliding_window", json!(7)), ("head_dim", json!(16))],
            ),
        ),
        (
            "mixtral that slides",
            family("mixtral", plain.clone(), &[("sliding_window", json!(5))]),
        ),
        (
            "qwen2",
            family(
                "qwen2",
                plain,
                &[
                    ("use_sliding_window", json!(true)),
                    ("sliding_window", json!(18)),
                    ("max_window_layers", json!(1)),
                ],
            ),
        ),
        ("gpt_oss", gpt_oss()),
        (
            "qwen3_5_moe",
            qwen3_5_moe(["linear_attention", "full_attention"]),
        ),
        (
            "qwen3_5_moe with a linear end",
            qwen3_5_moe(["full_attention", "linear_attention"]),
        ),
    ]
}

/// gpt-oss with windows that slide within the examples' lengths, and clamped where gates of these sizes sometimes are.
pub fn gpt_oss() -> Value {
    let rope = json!({
        "rope_type": "yarn", "rope_theta": 150_000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "truncate": false, "original_max_position_embeddings": 4096,
    });
    with(
        odd(),
        &[
            ("model_type", json!("gpt_oss")),
            ("rope_parameters", rope),
            ("sliding_window", json!(6)),
            ("swiglu_limit", json!(1.5)),
        ],
    )
}

/// Qwen3.5-MoE, its layers of these kinds.
pub fn qwen3_5_moe(kinds: [&str; 2]) -> Value {
    with(
        odd(),
        &[
            ("model_type", json!("qwen3_5_moe_text")),
            ("layer_types", json!(kinds)),
            ("moe_intermediate_size", json!(12)),
            ("shared_expert_intermediate_size", json!(9)),
            ("linear_num_key_heads", json!(2)),
            ("linear_num_value_heads", json!(4)),
            ("linear_key_head_dim", json!(6)),
            ("linear_value_head_dim", json!(5)),
            ("linear_conv_kernel_dim", json!(4)),
        ],
    )
}

pub fn create(config: &Value, threads: usize) -> Engine {
    let mut engine =
        Engine::create(&config.to_string(), None, 9, threads).expect("a good configuration");
    // Norms of one and biases of zero would hide mistakes.
    edit(&mut engine, |name, values| {
        for (i, x) in values.iter_mut().enumerate() {
            if name.contains("e_score_correction_bias") {
                *x = 4.0 + 0.05 * (2.0 * i as f32).cos();
            } else if ["norm", "bias", "sinks"]
                .iter()
                .any(|part| name.contains(part))
            {
                *x += 0.2 * (i as f32).sin();
            }
        }
    });
    engine
}

/// Sizes that can stay stored.
pub fn storable() -> Value {
    with(odd(), &[("head_dim", json!(16))])
}

pub fn storable_dense() -> Value {
    let dense = [("model_type", json!("llama")), ("head_dim", json!(16))];
    let plain = json!({"rope_type": "default", "rope_theta": 10000.0});
    with(with(odd(), &dense), &[("rope_parameters", plain)])
}

/// A model whose weights stay as a file has them.
pub fn stored(config: &Value, dtype: &str, threads: usize) -> Engine {
    let folder = tempfile::tempdir().expect("a folder");
    create(config, 1)
        .save(folder.path(), Some(dtype))
        .expect("saved");
    Engine::load_as(folder.path(), threads, WeightsMode::Stored).expect("loaded")
}

/// With an adapter of everything that changes what the model says.
pub fn adapted(mut engine: Engine, rank: usize) -> Engine {
    let targets = TARGETS.map(str::to_owned).to_vec();
    let settings = AdapterSettings::new(rank, 5.0, targets, false).expect("good settings");
    engine.adapt(settings, 4).expect("adapted");
    edit(&mut engine, |name, values| {
        if name.contains("lora_B") {
            for (i, x) in values.iter_mut().enumerate() {
                *x = 0.1 * ((3 * i + name.len()) as f32).sin();
            }
        }
    });
    engine
}

/// Every tensor that trains, by its name in files.
pub fn tensors(engine: &Engine) -> HashMap<String, Tensor> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.safetensors");
    engine.write_weights(&file).expect("written");
    candle_core::safetensors::load(&file, &Device::Cpu).expect("read")
}

/// Gives an engine these tensors.
pub fn put(engine: &mut Engine, tensors: &HashMap<String, Tensor>) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.safetensors");
    candle_core::safetensors::save(tensors, &file).expect("saved");
    engine.read_weights(&file).expect("taken");
}

/// Changes every tensor by its released name.
pub fn edit(engine: &mut Engine, mut change: impl FnMut(&str, &mut [f32])) {
    let mut tensors = tensors(engine);
    for (name, tensor) in &mut tensors {
        let mut values = values(tensor);
        change(name, &mut values);
        *tensor = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).expect("the same shape");
    }
    put(engine, &tensors);
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor
        .flatten_all()
        .and_then(|flat| flat.to_vec1())
        .expect("f32")
}

pub fn ids(seed: usize, n: usize) -> Vec<u32> {
    (0..n)
        .map(|i| ((seed * 13 + i * i * 5 + i * 3) % 37) as u32)
        .collect()
}

/// Ragged examples with gaps and offsets in their positions, and unequal weights.
pub fn batch() -> Vec<Example> {
    let example = |seed, n, answer_start, positions, weight| Example {
        ids: ids(seed, n),
        answer_start,
        positions,
        weight,
    };
    vec![
        example(1, 9, 4, Positions::From(0), 1.0),
        example(2, 2, 1, Positions::From(150), 0.5),
        example(3, 19, 18, Positions::From(3), 2.0),
        example(4, 33, 1, Positions::From(0), 1.0),
        example(5, 5, 2, Positions::Each(vec![0, 1, 7, 8, 40]), 1.0),
    ]
}

/// Two engines, of which one got its optimiser set by hand after `change`, go on alike, and so does one that takes up what was
/// saved then: whatever trains from there on begins with fresh moments and the settings of before.
pub fn begins_with_fresh_moments(
    what: &str,
    create: impl Fn() -> Engine,
    change: impl Fn(&mut Engine),
) {
    let optimizer = || Optimizer::new(0.8, 0.9, 1e-8, 0.1, 0.5, 0.01).expect("good");
    let steps = |engine: &mut Engine| {
        for _ in 0..2 {
            engine.train_step(&batch(), 1e-2, false).expect("a step");
        }
    };
    let after = |again: bool| {
        let mut engine = create();
        engine.reset_optimizer(optimizer());
        steps(&mut engine);
        change(&mut engine);
        if again {
            engine.reset_optimizer(optimizer());
        }
        engine
    };
    let (mut found, mut expected) = (after(false), after(true));
    let folder = tempfile::tempdir().expect("a folder");
    found.save_training(folder.path(), "").expect("saved");
    let mut later = after(true);
    later.load_training(folder.path()).expect("loaded");
    for engine in [&mut found, &mut expected, &mut later] {
        steps(engine);
    }
    assert_eq!(found.fingerprint(), expected.fingerprint(), "{what}");
    assert_eq!(later.fingerprint(), expected.fingerprint(), "{what}");
}
