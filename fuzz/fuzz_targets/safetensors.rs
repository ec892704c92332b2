//! Weights of any bytes beside a small configuration.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use moevolve_kernels::team::Team;
use moevolve_model::checkpoint::{Keep, load};

const CONFIG: &str = r#"{"model_type": "minimax_m2", "vocab_size": 9, "hidden_size": 4, "intermediate_size": 4,
"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2, "num_local_experts": 2,
"num_experts_per_tok": 1, "rope_theta": 10000.0, "rotary_dim": 2}"#;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("config.json"), CONFIG).expect("written");
    fs::write(folder.path().join("model.safetensors"), bytes).expect("written");
    let _ = load(folder.path(), Keep::Auto, &Team::new(1));
});
