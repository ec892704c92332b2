//! GGUF there and back in every family; names and rows. What torn headers say and tokenizers have files of their own.

#[path = "../common/mod.rs"]
mod common;
mod draft;
mod header;
mod split;
mod tokenizer;
mod vocabulary;

use common::{create, families, odd, with};
use moevolve_checkpoint::gguf::Gguf;
use moevolve_model::checkpoint::gguf::names::{Naming, released_row, separate};
use moevolve_model::config::Config;
use moevolve_model::layout::{Layout, bias_names};
use moevolve_model::{Engine, plan};
use proptest::prelude::*;
use serde_json::json;

/// Families as llama.cpp has them: no biases beside Llama's, its own rules of normalising, key heads for OLMoE.
fn exportable() -> Vec<(String, serde_json::Value)> {
    let fits = |(name, config): (&str, serde_json::Value)| {
        let config = match name {
            "olmoe" => with(config, &[("num_key_value_heads", json!(6))]),
            "mistral" => with(config, &[("sliding_window", json!(null))]),
            "qwen2" => with(config, &[("use_sliding_window", json!(false))]),
            _ => config,
        };
        let slides = name == "mixtral that slides";
        let unknown = name.starts_with("gpt_oss") || name.starts_with("qwen3_5");
        let refused = ["olmoe normalised", "qwen3_moe with biases"].contains(&name);
        let refused = refused || slides || unknown;
        (!refused).then(|| (name.to_owned(), config))
    };
    families().into_iter().filter_map(fits).collect()
}

#[test]
fn a_gguf_comes_back_bit_by_bit_in_every_family() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, config) in exportable() {
        let engine = create(&config, 7);
        let file = folder.path().join("model.gguf");
        engine.save(&file, Some("f32")).expect(&name);
        let again = Engine::load(&file, 1).expect(&name);
        // A tied head that llama.cpp's architecture does not know comes back as a head of its own.
        if again.config().tied == engine.config().tied {
            assert_eq!(again.fingerprint(), engine.fingerprint(), "{name}");
        }
        let (a, b) = (engine.config(), again.config());
        assert_eq!(
            (a.rotated, a.theta, a.epsilon, a.positions, a.attention_bias),
            (b.rotated, b.theta, b.epsilon, b.positions, b.attention_bias),
            "{name}"
        );
        let close = |x: &[f32], y: &[f32]| x.iter().zip(y).all(|(x, y)| (x - y).abs() <= 1e-4 * y);
        assert!(
            close(
                &b.scaling.frequencies(b.rotated, b.theta as f32),
                &a.scaling.frequencies(a.rotated, a.theta as f32)
            ),
            "{name}: {:?} {:?}",
            a.scaling,
            b.scaling
        );
        let weighed = plan::of_path(&file).expect(&name);
        assert_eq!(
            weighed.kv_bytes_per_token as usize,
            2 * 2 * a.layers * a.key_heads * a.head
        );
    }
}

#[test]
fn what_llama_cpp_does_otherwise_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    let refusal = |config| {
        let error = create(&config, 1).save(&file, Some("f16"));
        error.expect_err("refused").to_string()
    };
    let grouped = families()
        .into_iter()
        .find(|(n, _)| *n == "olmoe")
        .expect("there")
        .1;
    assert!(refusal(grouped).contains("as many key heads as heads"));
    let plain = with(families()[1].1.clone(), &[("norm_topk_prob", json!(false))]);
    assert!(refusal(plain).contains("always normalises"));
    for (name, word) in [
        ("mixtral that slides", "sliding_window"),
        ("mistral", "sliding_window"),
        ("gpt_oss", "folder alone"),
    ] {
        let config = families().into_iter().find(|(known, _)| *known == name);
        assert!(refusal(config.expect("there").1).contains(word), "{name}");
    }
    let error = create(&odd(), 1)
        .save(&file, Some("q3_k"))
        .expect_err("unknown");
    assert!(error.is_usage(), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
}

#[test]
fn narrow_formats_fall_back_where_rows_are_no_whole_blocks() {
    let folder = tempfile::tempdir().expect("a folder");
    let sizes = [
        ("hidden_size", json!(64)),
        ("intermediate_size", json!(256)),
        ("head_dim", json!(16)),
    ];
    let engine = create(&with(odd(), &sizes), 3);
    for (format, expected) in [
        (
            "f16",
            [
                ("blk.0.attn_q.weight", "F16"),
                ("blk.0.ffn_down_exps.weight", "F16"),
            ],
        ),
        (
            "q8_0",
            [
                ("blk.0.attn_q.weight", "Q8_0"),
                ("blk.0.ffn_down_exps.weight", "Q8_0"),
            ],
        ),
        (
            "q4_0",
            [("blk.0.attn_q.weight", "Q4_0"), ("output.weight", "Q8_0")],
        ),
        // Rows of 64 are no blocks of 256.
        (
            "q4_k",
            [
                ("blk.0.attn_q.weight", "Q5_0"),
                ("blk.0.ffn_down_exps.weight", "Q4_K"),
            ],
        ),
    ] {
        let file = folder.path().join(format!("{format}.gguf"));
        engine.save(&file, Some(format)).expect(format);
        let bytes = std::fs::read(&file).expect("read");
        let gguf = Gguf::parse(&bytes, "model.gguf").expect(format);
        let kind = |name: &str| gguf.tensor_named(name).expect(name).format.name();
        for (name, wanted) in expected {
            assert_eq!(kind(name), wanted, "{format} {name}");
        }
        for name in [
            "blk.1.ffn_gate_inp.weight",
            "blk.1.exp_probs_b.bias",
            "output_norm.weight",
        ] {
            assert_eq!(kind(name), "F32", "{format} {name}");
        }
        let again = Engine::load(&file, 1).expect(format);
        assert_eq!(again.config().experts, 5);
    }
    // Rows of 20 are no blocks at all.
    let file = folder.path().join("odd.gguf");
    create(&odd(), 3)
        .save(&file, Some("q4_k"))
        .expect("written");
    let bytes = std::fs::read(&file).expect("read");
    let gguf = Gguf::parse(&bytes, "model.gguf").expect("whole");
    assert_eq!(
        gguf.tensor_named("blk.0.attn_q.weight")
            .expect("there")
            .format
            .name(),
        "F16"
    );
}

#[test]
fn every_released_name_has_one_place() {
    for (name, text) in exportable() {
        let config = Config::parse(&text.to_string(), "config.json").expect(&name);
        let fields = text.as_object().expect("an object");
        let naming = Naming::of(fields);
        let mut taken = std::collections::BTreeSet::new();
        let names = Layout::new(&config)
            .tensors
            .into_iter()
            .map(|spec| spec.name);
        for released in names.chain(bias_names(&config)) {
            let tensor = naming
                .gguf(&released)
                .unwrap_or_else(|| panic!("{name}: {released}"));
            assert!(
                taken.insert((tensor.name, tensor.expert)),
                "{name}: {released}"
            );
        }
        for stranger in [
            "model.layers.0.mlp.experts.5.gate_proj.weight",
            "model.layers.x.input_layernorm.weight",
            "lm_head",
        ] {
            assert_eq!(naming.gguf(stranger), None, "{name}");
        }
    }
}

proptest! {
    #[test]
    fn rows_come_back_from_their_interleaving(heads in 1usize..5, half in 1usize..6, width in 1usize..20, seed: u8) {
        let rows = heads * 2 * half;
        let bytes: Vec<u8> = (0..rows * width).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        let row = |r: usize| &bytes[r * width..][..width];
        let there: Vec<u8> = (0..rows).flat_map(|r| row(released_row(r, 2 * half))).copied().collect();
        prop_assert_eq!(&separate(&there, rows, heads).unwrap(), &bytes);
        // Dimension i of a head and its partner i + half become neighbours.
        for h in 0..heads {
            for i in 0..half {
                let first = h * 2 * half;
                prop_assert_eq!(released_row(first + 2 * i, 2 * half), first + i);
                prop_assert_eq!(released_row(first + 2 * i + 1, 2 * half), first + i + half);
            }
        }
    }
}
