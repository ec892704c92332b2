//! Any bytes as the weights of a small model.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use moevolve_model::Engine;

const CONFIG: &str = r#"{
    "model_type": "qwen3_moe", "vocab_size": 9, "hidden_size": 4, "moe_intermediate_size": 3, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2, "num_experts": 2, "num_experts_per_tok": 1
}"#;

/// A folder with a good configuration, and what good weights look like for a seed of the corpus.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::create(CONFIG, None, 1, 1).expect("a good configuration");
    engine.save(folder.path(), None).expect("saved");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let place = FOLDER.path();
    std::fs::write(place.join("model.safetensors"), bytes).expect("written");
    if let Err(error) = Engine::load(place, 1) {
        assert!(error.is_checkpoint(), "{error}");
    }
});
