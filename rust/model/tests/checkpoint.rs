//! Checkpoints there and back; a fused in-memory layout; what a torn one says.

mod common;

use std::collections::HashMap;
use std::fs;

use candle_core::{Device, Tensor};
use common::{create, ids, odd, with};
use moevolve_model::{Engine, Error};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn a_checkpoint_comes_back_with_its_unknown_fields() {
    let engine = create(&with(odd(), &[("a_new_field", json!({"kept": [1, 2]}))]), 1);
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("deep/er");
    engine.save(&place, None).expect("saved");
    let again = Engine::load(&place, 1).expect("loaded");
    assert_eq!(again.fingerprint(), engine.fingerprint());
    assert!(again.config_json().contains("a_new_field"));
    // 0.67 of 6 dimensions is 4: the factor that is saved means the same number.
    assert_eq!(again.config().rotated, 4);
    let names: Vec<_> = fs::read_dir(&place)
        .expect("listed")
        .map(|f| f.expect("entry").file_name())
        .collect();
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().contains("partial")),
        "{names:?}"
    );
}

#[test]
fn fused_expert_matrices_come_apart() {
    let mut engine = create(&odd(), 1);
    let folder = tempfile::tempdir().expect("a folder");
    engine.save(folder.path(), None).expect("saved");
    let file = folder.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).expect("read");
    let mut fused: HashMap<String, Tensor> = HashMap::new();
    for layer in 0..2 {
        let stem = format!("model.layers.{layer}.block_sparse_moe.experts");
        let mut take = |e: usize, part: &str| {
            tensors
                .remove(&format!("{stem}.{e}.{part}.weight"))
                .expect("there")
        };
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for e in 0..5 {
            up.push(Tensor::cat(&[take(e, "w1"), take(e, "w3")], 0).expect("stacked"));
            down.push(take(e, "w2"));
        }
        let name = |part: &str| format!("model.layers.{layer}.mlp.experts.{part}");
        fused.insert(
            name("gate_up_proj"),
            Tensor::stack(&up, 0).expect("stacked"),
        );
        fused.insert(name("down_proj"), Tensor::stack(&down, 0).expect("stacked"));
    }
    fused.extend(
        tensors
            .into_iter()
            .map(|(name, t)| (name.replace("block_sparse_moe", "mlp"), t)),
    );
    candle_core::safetensors::save(&fused, &file).expect("saved");
    let mut again = Engine::load(folder.path(), 1).expect("loaded");
    assert_eq!(again.fingerprint(), engine.fingerprint());
    let rows = [ids(1, 9)];
    assert_eq!(
        again.logits(&rows).expect("good").values,
        engine.logits(&rows).expect("good").values
    );
}

#[test]
fn a_size_of_terabytes_is_refused_before_memory_is_asked_for() {
    let engine = create(&odd(), 1);
    let folder = tempfile::tempdir().expect("a folder");
    engine.save(folder.path(), None).expect("saved");
    let file = folder.path().join("config.json");
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("read")).expect("JSON");
    for key in [
        "hidden_size",
        "vocab_size",
        "num_hidden_layers",
        "num_local_experts",
        "intermediate_size",
    ] {
        let changed = with(config.clone(), &[(key, json!(2_000_000_000))]);
        fs::write(&file, changed.to_string()).expect("written");
        let refused = Engine::load(folder.path(), 1).err().expect("refused");
        assert!(
            refused.is_checkpoint() && refused.to_string().contains("config.json"),
            "{refused}"
        );
        assert!(
            Engine::create(&changed.to_string(), None, 0, 1).is_err(),
            "{key}"
        );
    }
}

#[test]
fn an_interrupted_write_leaves_the_old_file() {
    let engine = create(&odd(), 1);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.safetensors");
    let hash = engine.write_weights(&file).expect("written");
    // A folder where the temporary file would go makes the write fail before the rename.
    let partial = format!("weights.safetensors.{}.partial", std::process::id());
    fs::create_dir(folder.path().join(partial)).expect("made");
    assert!(engine.write_weights(&file).is_err());
    assert_eq!(
        blake3::hash(&fs::read(&file).expect("read"))
            .to_hex()
            .to_string(),
        hash
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    /// Whatever one byte or a cut does to the weights: an error that names the file or a tensor, or the same shapes.
    #[test]
    fn damaged_weights_never_panic(at: prop::sample::Index, flip in 1u8..=255, cut: Option<prop::sample::Index>) {
        let engine = create(&odd(), 1);
        let folder = tempfile::tempdir().expect("a folder");
        engine.save(folder.path(), None).expect("saved");
        let file = folder.path().join("model.safetensors");
        let mut bytes = fs::read(&file).expect("read");
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
        let place = at.index(header);
        bytes[place] ^= flip;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&file, &bytes).expect("written");
        if let Err(error) = Engine::load(folder.path(), 1) {
            prop_assert!(error.is_checkpoint(), "{error}");
            prop_assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
        }
    }

    /// Whatever stands in a configuration: loaded or refused by name, never a panic.
    #[test]
    fn odd_configurations_never_panic(key in 0usize..12, value in prop_oneof![
        Just(json!(null)), Just(json!("x")), Just(json!([])), Just(json!({})), Just(json!(true)),
        any::<i64>().prop_map(|x| json!(x)), any::<f64>().prop_map(|x| json!(x)), (0i64..40).prop_map(|x| json!(x)),
    ]) {
        const KEYS: [&str; 12] = [
            "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "num_experts_per_tok", "rotary_dim",
            "rope_parameters", "rope_theta", "eos_token_id", "rms_norm_eps", "hidden_act", "initializer_range",
        ];
        let mut config = with(odd(), &[(KEYS[key], value.clone())]);
        if KEYS[key] == "rotary_dim" {
            config["rope_parameters"] = json!(null);
        }
        match Engine::create(&config.to_string(), None, 0, 1) {
            Ok(_) => {}
            Err(Error::Checkpoint(moevolve_checkpoint::Error::Config { key, .. })) => prop_assert!(!key.is_empty()),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
