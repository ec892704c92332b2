//! Configurations of released models: their sizes, and what is refused by name.
//!
//! One file above 400 lines: what is read of a family's configuration stands beside what is refused of it.

mod common;

use common::{create, edit, families, odd, qwen3_5_moe, with};
use moevolve_checkpoint::Error;
use moevolve_kernels::frequencies::Scaling;
use moevolve_model::config::Config;
use serde_json::{Value, json};

fn parse(config: &Value) -> Config {
    Config::parse(&config.to_string(), "config.json").expect("a good configuration")
}

/// MiniMax-M2 as released, without what does not change the network.
fn m2() -> Value {
    json!({
        "model_type": "minimax_m2", "vocab_size": 200_064, "hidden_size": 3072, "intermediate_size": 1536,
        "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
        "num_local_experts": 256, "num_experts_per_tok": 8, "rotary_dim": 64, "rope_theta": 5_000_000,
        "use_mtp": true, "num_mtp_modules": 3, "mtp_transformer_layers": 1, "use_qk_norm": true,
        "qk_norm_type": "per_layer", "use_routing_bias": true, "scoring_func": "sigmoid", "eos_token_id": 200_020,
        "attn_type_list": vec![1; 62], "shared_intermediate_size": 0, "max_position_embeddings": 196_608,
        "quantization_config": {
            "quant_method": "fp8", "fmt": "float8_e4m3fn", "activation_scheme": "dynamic",
            "weight_block_size": [128, 128], "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"],
        },
    })
}

#[test]
fn numbers_are_saved_as_they_were_read() {
    // What a reader that rounds carelessly takes for 1e-25.
    let change = ("rms_norm_eps", json!(9.999_999_999_999_999e-26));
    let text = with(m2(), &[change]);
    assert!(
        parse(&text)
            .to_json("float32")
            .contains("9.999999999999999e-26")
    );
}

#[test]
fn released_models_have_their_known_sizes() {
    let mixtral = json!({
        "model_type": "mixtral", "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 14_336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8,
        "num_experts_per_tok": 2, "rope_theta": 1e6, "sliding_window": null, "max_position_embeddings": 32_768,
    });
    let qwen3_moe = json!({
        "model_type": "qwen3_moe", "vocab_size": 151_936, "hidden_size": 2048, "intermediate_size": 6144,
        "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
        "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true, "rope_theta": 1e6,
        "sliding_window": null, "use_sliding_window": false, "mlp_only_layers": [], "decoder_sparse_step": 1,
    });
    let olmoe = json!({
        "model_type": "olmoe", "vocab_size": 50_304, "hidden_size": 2048, "intermediate_size": 1024,
        "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 64,
        "num_experts_per_tok": 8, "norm_topk_prob": false, "clip_qkv": null,
    });
    let llama = json!({
        "model_type": "llama", "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        "tie_word_embeddings": true, "rope_theta": 500_000.0, "mlp_bias": false, "attention_bias": false,
        "eos_token_id": [128_001, 128_008, 128_009], "max_position_embeddings": 131_072,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
    });
    let qwen3 = json!({
        "model_type": "qwen3", "vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "tie_word_embeddings": true, "rope_theta": 1e6, "rope_scaling": null, "sliding_window": null,
        "use_sliding_window": false, "max_window_layers": 28,
    });
    let mistral = json!({
        "model_type": "mistral", "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 14_336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "rope_theta": 10_000.0,
        "sliding_window": 4096, "max_position_embeddings": 32_768,
    });
    let qwen2 = json!({
        "model_type": "qwen2", "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": true,
        "rope_theta": 1e6, "sliding_window": 32_768, "use_sliding_window": false, "max_window_layers": 21,
    });
    let gpt_oss = json!({
        "model_type": "gpt_oss", "vocab_size": 201_088, "hidden_size": 2880, "intermediate_size": 2880,
        "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
        "num_local_experts": 32, "num_experts_per_tok": 4, "experts_per_token": 4, "attention_bias": true,
        "sliding_window": 128, "initial_context_length": 4096, "max_position_embeddings": 131_072,
        "rope_theta": 150_000, "swiglu_limit": 7.0, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
            "rope_type": "yarn", "truncate": false,
        },
        "quantization_config": {
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router"],
            "quant_method": "mxfp4",
        },
    });
    let qwen3_5_moe = json!({
        "model_type": "qwen3_5_moe", "tie_word_embeddings": false, "vision_config": {"depth": 27},
        "text_config": {
            "model_type": "qwen3_5_moe_text", "vocab_size": 248_320, "hidden_size": 2048, "num_hidden_layers": 40,
            "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "full_attention_interval": 4,
            "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
            "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "num_experts": 256, "num_experts_per_tok": 8,
            "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "eos_token_id": 248_044,
            "rope_parameters": {
                "mrope_interleaved": true, "mrope_section": [11, 11, 10], "rope_type": "default",
                "rope_theta": 10_000_000, "partial_rotary_factor": 0.25,
            },
        },
    });
    for (config, size) in [
        (qwen3_5_moe, 34_660_610_688.0),
        (mistral, 7_241_732_096.0),
        (qwen2, 494_032_768.0),
        (gpt_oss, 20_914_757_184.0),
        (mixtral, 46_702_792_704.0),
        (qwen3_moe, 30_532_122_624.0),
        (olmoe, 6_919_161_856.0),
        (llama, 1_235_814_400.0),
        (qwen3, 596_049_920.0),
    ] {
        let config = parse(&config);
        assert_eq!(config.parameters(), size, "{:?}", config.family);
        let plan = moevolve_model::plan::of(&config.fields, "config.json").expect("a plan");
        assert_eq!(plan.parameters as f64, size, "{:?}", config.family);
    }
    let m2 = parse(&m2());
    assert_eq!((m2.parameters() / 1e8).round(), 2287.0);
    let plan = moevolve_model::plan::of(&m2.fields, "config.json").expect("a plan");
    assert_eq!((plan.parameters as f64 / 1e8).round(), 2287.0);
    assert_eq!((plan.active_without_vocabulary as f64 / 1e8).round(), 98.0);
    assert_eq!(m2.rotated, 64);
}

#[test]
fn released_and_saved_rotary_fields_mean_the_same() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let old = json!({"type": "linear", "factor": 2.0});
    for scaling in [llama3, old] {
        let (_, config) = families().remove(6);
        let released = with(
            config,
            &[
                ("rope_parameters", Value::Null),
                ("rope_scaling", scaling),
                ("rope_theta", json!(5e5)),
            ],
        );
        let config = parse(&released);
        assert_eq!(config.theta, 5e5);
        assert_ne!(config.scaling, Scaling::Plain);
        let saved: Value = serde_json::from_str(&config.to_json("float32")).expect("JSON");
        assert_eq!(saved.get("rope_scaling"), None);
        let again = parse(&saved);
        assert_eq!((again.theta, again.scaling), (config.theta, config.scaling));
        assert_eq!(again.to_json("float32"), config.to_json("float32"));
    }
}

#[test]
fn any_rotated_width_comes_back_from_its_factor() {
    for head in 2..=200 {
        for rotated in (2..=head).step_by(2) {
            let released = with(
                odd(),
                &[
                    ("head_dim", json!(head)),
                    ("rotary_dim", json!(rotated)),
                    ("rope_parameters", Value::Null),
                ],
            );
            let saved = parse(&released).to_json("float32");
            let again = Config::parse(&saved, "config.json").expect("what was saved is read");
            assert_eq!(again.rotated, rotated, "of {head}");
        }
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let all = families();
    let family = |name: &str| {
        let found = all.iter().find(|(known, _)| *known == name);
        found.expect("a known family").1.clone()
    };
    let window = json!(50);
    for (name, changes, key) in [
        ("llama", vec![("mlp_bias", json!(true))], "mlp_bias"),
        ("llama", vec![("hidden_act", json!("gelu"))], "hidden_act"),
        (
            "llama",
            vec![("rope_parameters", json!({"rope_type": "longrope"}))],
            "rope_type",
        ),
        (
            "llama",
            vec![("rope_parameters", json!({"type": "dynamic", "factor": 2.0}))],
            "type",
        ),
        (
            "llama",
            vec![("rope_parameters", json!({"rope_type": "linear"}))],
            "factor",
        ),
        (
            "llama",
            vec![("partial_rotary_factor", json!(0.67))],
            "partial_rotary_factor",
        ),
        ("olmoe", vec![("clip_qkv", json!(8.0))], "clip_qkv"),
        (
            "qwen3_moe",
            vec![("mlp_only_layers", json!([0]))],
            "mlp_only_layers",
        ),
        (
            "qwen3_moe",
            vec![("decoder_sparse_step", json!(2))],
            "decoder_sparse_step",
        ),
        (
            "qwen3_moe",
            vec![("moe_intermediate_size", Value::Null)],
            "moe_intermediate_size",
        ),
        (
            "qwen3_moe",
            vec![("norm_topk_prob", json!("yes"))],
            "norm_topk_prob",
        ),
        (
            "olmoe",
            vec![("sliding_window", window.clone())],
            "sliding_window",
        ),
        (
            "mistral",
            vec![(
                "layer_types",
                json!(["full_attention", "sliding_attention"]),
            )],
            "layer_types",
        ),
        (
            "gpt_oss",
            vec![("sliding_window", Value::Null)],
            "sliding_window",
        ),
        (
            "gpt_oss",
            vec![("layer_types", json!(["full_attention"]))],
            "layer_types",
        ),
        (
            "gpt_oss",
            vec![(
                "layer_types",
                json!(["full_attention", "chunked_attention"]),
            )],
            "layer_types",
        ),
        (
            "qwen3",
            vec![(
                "layer_types",
                json!(["full_attention", "sliding_attention"]),
            )],
            "layer_types",
        ),
        (
            "llama",
            vec![("quantization_config", json!({"quant_method": "mxfp4"}))],
            "quantization_config",
        ),
        (
            "minimax_m2",
            vec![("attn_type_list", json!([1, 0]))],
            "attn_type_list",
        ),
        (
            "minimax_m2",
            vec![("scoring_func", json!("softmax"))],
            "scoring_func",
        ),
        (
            "llama",
            vec![("quantization_config", json!({"quant_method": "gptq"}))],
            "quantization_config",
        ),
        (
            "llama",
            vec![(
                "quantization_config",
                json!({"quant_method": "fp8", "weight_block_size": [64, 64]}),
            )],
            "weight_block_size",
        ),
    ] {
        let config = with(family(name), &changes);
        match Config::parse(&config.to_string(), "config.json") {
            Err(Error::Config { key: named, .. }) => {
                assert_eq!(named, key, "{changes:?}")
            }
            other => panic!("{changes:?}: {other:?}"),
        }
    }
    // A window as wide as the context, or switched off, changes nothing.
    for (name, changes) in [
        ("mixtral", vec![("sliding_window", json!(4096))]),
        ("qwen3", vec![("sliding_window", window.clone())]),
        (
            "qwen3",
            vec![
                ("sliding_window", window.clone()),
                ("use_sliding_window", json!(true)),
                ("max_window_layers", json!(28)),
            ],
        ),
        (
            "qwen3_moe",
            vec![
                ("sliding_window", window),
                ("use_sliding_window", json!(false)),
            ],
        ),
    ] {
        parse(&with(family(name), &changes));
    }
}

#[test]
fn windows_slide_where_the_configuration_says() {
    let all = families();
    let windows = |name: &str, changes: &[(&str, Value)]| {
        let found = all.iter().find(|(known, _)| *known == name);
        let mut config = found.expect("a known family").1.clone();
        let fields = config.as_object_mut().expect("an object");
        fields.remove("sliding_window");
        fields.insert("num_hidden_layers".to_owned(), json!(3));
        let config = parse(&with(config, changes));
        (0..3).map(|l| config.windows.of(l)).collect::<Vec<_>>()
    };
    let wide = ("max_position_embeddings", json!(8000));
    let on = ("use_sliding_window", json!(true));
    let late = ("max_window_layers", json!(1));
    let nine = ("sliding_window", json!(9));
    let kinds = json!(["full_attention", "sliding_attention", "full_attention"]);
    for (name, changes, expected) in [
        ("mistral", vec![wide.clone()], [Some(4096); 3]),
        (
            "mistral",
            vec![("sliding_window", Value::Null), wide.clone()],
            [None; 3],
        ),
        ("mistral", vec![], [None; 3]),
        ("mixtral", vec![wide.clone()], [None; 3]),
        ("mixtral", vec![nine.clone()], [Some(9); 3]),
        ("qwen3_moe", vec![nine.clone()], [None; 3]),
        ("qwen3_moe", vec![nine.clone(), on.clone()], [Some(9); 3]),
        (
            "qwen3",
            vec![on.clone(), late.clone(), nine.clone()],
            [None, Some(9), Some(9)],
        ),
        (
            "qwen2",
            vec![on.clone(), late, wide],
            [None, Some(4096), Some(4096)],
        ),
        (
            "qwen2",
            vec![("use_sliding_window", json!(false)), nine.clone()],
            [None; 3],
        ),
        (
            "qwen2",
            vec![on, nine.clone(), ("layer_types", kinds.clone())],
            [None, Some(9), None],
        ),
        ("gpt_oss", vec![], [Some(128), None, Some(128)]),
        (
            "gpt_oss",
            vec![nine, ("layer_types", kinds)],
            [None, Some(9), None],
        ),
    ] {
        assert_eq!(windows(name, &changes), expected, "{name} {changes:?}");
    }
}

#[test]
fn layers_are_linear_where_the_configuration_says() {
    let linear = |changes: &[(&str, Value)]| {
        let mut config = with(
            qwen3_5_moe(["linear_attention"; 2]),
            &[("num_hidden_layers", json!(6))],
        );
        config
            .as_object_mut()
            .expect("an object")
            .remove("layer_types");
        let config = parse(&with(config, changes));
        (0..6).map(|l| config.is_linear(l)).collect::<Vec<_>>()
    };
    assert_eq!(linear(&[]), [true, true, true, false, true, true]);
    let interval = ("full_attention_interval", json!(2));
    assert_eq!(linear(&[interval]), [true, false, true, false, true, false]);
    for (changes, key) in [
        (
            vec![("layer_types", json!(["linear_attention"]))],
            "layer_types",
        ),
        (
            vec![(
                "layer_types",
                json!(["linear_attention", "sliding_attention"]),
            )],
            "layer_types",
        ),
        (
            vec![("linear_num_key_heads", json!(3))],
            "linear_num_key_heads",
        ),
        (
            vec![("linear_conv_kernel_dim", json!(17))],
            "linear_conv_kernel_dim",
        ),
    ] {
        let config = with(qwen3_5_moe(["linear_attention"; 2]), &changes);
        match Config::parse(&config.to_string(), "config.json") {
            Err(Error::Config { key: named, .. }) => assert_eq!(named, key, "{changes:?}"),
            other => panic!("{changes:?}: {other:?}"),
        }
    }
}

#[test]
fn later_minimax_models_are_the_same_architecture() {
    // MiniMax-M2.1, M2.5 and M2.7 as released differ from M2 in weights alone.
    let mut later = m2();
    let fields = later.as_object_mut().expect("an object");
    fields.insert("architectures".to_owned(), json!(["MiniMaxM2ForCausalLM"]));
    fields.insert("transformers_version".to_owned(), json!("4.46.1"));
    fields.insert("tie_word_embeddings".to_owned(), json!(false));
    let (later, first) = (parse(&later), parse(&m2()));
    assert_eq!(later.parameters(), first.parameters());
    assert_eq!(later.tensors(), first.tensors());
    let plan =
        |config: &Config| moevolve_model::plan::of(&config.fields, "config.json").expect("a plan");
    assert_eq!(plan(&later), plan(&first));
}

#[test]
fn a_quantised_configuration_is_saved_as_what_it_became() {
    let saved: Value = serde_json::from_str(&parse(&m2()).to_json("bfloat16")).expect("JSON");
    assert_eq!(saved.get("quantization_config"), None);
    assert_eq!(saved["dtype"], "bfloat16");
    assert_eq!(saved["use_mtp"], true);
}

#[test]
fn layers_for_multi_token_prediction_are_left_unread() {
    let m2 = parse(&m2());
    for name in [
        "model.layers.62.enorm.weight",
        "model.layers.64.self_attn.q_proj.weight",
        "model.mtp.norm.weight",
        "mtp.0.weight",
        "model.layers.3.self_attn.rotary_emb.inv_freq",
    ] {
        assert!(m2.leaves_unread(name), "{name}");
    }
    for name in [
        "model.layers.65.enorm.weight",
        "model.layers.61.x",
        "model.layers.x",
        "lm_head.weight",
    ] {
        assert!(!m2.leaves_unread(name), "{name}");
    }
    let without = parse(&odd());
    assert!(!without.leaves_unread("model.layers.2.enorm.weight"));
}

#[test]
fn every_family_saves_its_own_names() {
    for (family, config) in families() {
        let mut engine = create(&config, 1);
        let mut names = Vec::new();
        edit(&mut engine, |name, _| names.push(name.to_owned()));
        if family != "gpt_oss" {
            // Whose files have all experts of a layer in four tensors.
            assert_eq!(names.len() as f64, engine.config().tensors(), "{family}");
        }
        let has = |part: &str| names.iter().any(|name| name.contains(part));
        let sparse = family.starts_with("minimax") || family.starts_with("mixtral");
        let recurrent = family.starts_with("qwen3_5");
        assert_eq!(has("linear_attn.conv1d.weight"), recurrent, "{family}");
        assert_eq!(
            has("mlp.shared_expert.up_proj.weight"),
            recurrent,
            "{family}"
        );
        let named = ["qwen3", "qwen2", "mistral"].contains(&family);
        let dense = family.starts_with("llama") || named;
        let stacked = family == "gpt_oss";
        assert_eq!(
            has("block_sparse_moe.experts.4.w2.weight"),
            sparse,
            "{family}"
        );
        assert_eq!(has("0.mlp.down_proj.weight"), dense, "{family}");
        assert_eq!(
            has("mlp.experts.4.down_proj.weight"),
            !sparse && !dense && !stacked,
            "{family}"
        );
        assert_eq!(has("mlp.experts.gate_up_proj_bias"), stacked, "{family}");
        assert_eq!(has("self_attn.sinks"), stacked, "{family}");
        assert_eq!(has("e_score_correction_bias"), family == "minimax_m2");
        assert_eq!(
            has("q_norm"),
            !["mistral", "qwen2", "gpt_oss"].contains(&family)
                && !family.starts_with("mixtral")
                && !family.starts_with("llama")
        );
    }
}
