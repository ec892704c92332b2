//! What models weigh, against figures that others published or counted.

use moevolve_model::config::Config;
use moevolve_model::layout::Layout;
use moevolve_model::plan::{Plan, of, of_path};
use serde_json::{Value, json};

fn plan(config: Value) -> Plan {
    let Value::Object(map) = config else {
        panic!("a configuration is an object")
    };
    of(&map, "config.json").unwrap()
}

/// The sizes of the released file, FP8 blocks included.
fn minimax_m2_7() -> Value {
    json!({
        "architectures": ["MiniMaxM2ForCausalLM"], "model_type": "minimax_m2", "hidden_size": 3072,
        "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
        "rotary_dim": 64, "rope_theta": 5_000_000, "max_position_embeddings": 204_800,
        "num_local_experts": 256, "num_experts_per_tok": 8, "intermediate_size": 1536,
        "shared_intermediate_size": 0, "mlp_intermediate_size": 8192, "hidden_act": "silu",
        "scoring_func": "sigmoid", "use_routing_bias": true, "use_qk_norm": true, "qk_norm_type": "per_layer",
        "rms_norm_eps": 1e-6, "vocab_size": 200_064, "tie_word_embeddings": false,
        "use_mtp": true, "num_mtp_modules": 3, "mtp_transformer_layers": 1,
        "quantization_config": {"quant_method": "fp8", "fmt": "float8_e4m3fn", "weight_block_size": [128, 128]},
    })
}

#[test]
fn minimax_m2_7_weighs_what_its_report_says() {
    let plan = plan(minimax_m2_7());
    assert_eq!(format!("{:.1}", plan.parameters as f64 / 1e9), "228.7");
    let active = plan.active_without_vocabulary as f64 / 1e9;
    assert_eq!(format!("{active:.1}"), "9.8");
    assert_eq!(format!("{:.2}", plan.active as f64 / 1e9), "10.42");
    assert_eq!(plan.kv_bytes_per_token, 253_952);
    // The released FP8 checkpoint has 230.2 GB, its routers and more in bf16.
    let fp8 = plan.bytes["fp8"].as_u64().unwrap() as f64 / 1e9;
    assert!((229.5..230.5).contains(&fp8), "{fp8}");
    let parts: u64 = plan.parts.iter().map(|part| part.parameters).sum();
    assert_eq!(parts, plan.parameters);
}

#[test]
fn dense_and_sparse_models_weigh_what_their_cards_say() {
    let smollm = plan(json!({
        "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49_152,
        "tie_word_embeddings": true, "max_position_embeddings": 8192,
    }));
    assert_eq!(smollm.parameters, 134_515_008);
    assert_eq!(smollm.active, smollm.parameters);
    assert_eq!(smollm.kv_bytes_per_token, 2 * 30 * 3 * 64 * 2);
    let qwen = plan(json!({
        "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768,
        "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151_936, "mlp_only_layers": [],
        "decoder_sparse_step": 1,
    }));
    assert_eq!(format!("{:.1}", qwen.parameters as f64 / 1e9), "30.5");
    assert_eq!(format!("{:.1}", qwen.active as f64 / 1e9), "3.0");
    let mixtral = plan(json!({
        "model_type": "mixtral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14_336, "num_local_experts": 8,
        "num_experts_per_tok": 2, "vocab_size": 32_000,
    }));
    assert_eq!(format!("{:.1}", mixtral.parameters as f64 / 1e9), "46.7");
    let olmoe = plan(json!({
        "model_type": "olmoe", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16,
        "num_key_value_heads": 16, "intermediate_size": 1024, "num_experts": 64, "num_experts_per_tok": 8,
        "vocab_size": 50_304,
    }));
    assert_eq!(format!("{:.2}", olmoe.parameters as f64 / 1e9), "6.92");
}

#[test]
fn a_plan_counts_what_the_engine_lays_out() {
    let text = json!({
        "model_type": "minimax_m2", "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6,
        "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 40, "num_local_experts": 5,
        "num_experts_per_tok": 2, "vocab_size": 130, "tie_word_embeddings": true,
    });
    let config = Config::parse(&text.to_string(), "config.json").unwrap();
    let layout = Layout::new(&config);
    let trained: usize = layout
        .tensors
        .iter()
        .map(|n| n.shape().iter().product::<usize>())
        .sum();
    // Selection biases are no trained numbers, but they weigh.
    assert_eq!(plan(text).parameters, (trained + 3 * 5) as u64);
}

#[test]
fn an_impossible_configuration_is_an_error_that_names_the_key() {
    let text = |change: &dyn Fn(&mut Value)| {
        let mut config = minimax_m2_7();
        change(&mut config);
        let Value::Object(map) = config else {
            panic!("a configuration is an object")
        };
        of(&map, "config.json").unwrap_err().to_string()
    };
    let message = text(&|c| c["hidden_size"] = json!(-1));
    assert_eq!(
        message,
        "config.json: hidden_size: -1 is not a positive whole number below 2^30"
    );
    assert!(text(&|c| c["model_type"] = json!("mamba")).contains("mamba cannot be planned"));
    let huge = text(&|c| {
        for key in [
            "hidden_size",
            "num_hidden_layers",
            "intermediate_size",
            "num_local_experts",
        ] {
            c[key] = json!(0x3fff_ffff);
        }
    });
    assert!(huge.contains("its sizes make"), "{huge}");
    assert!(of_path(std::path::Path::new("nowhere")).is_err());
}
