//! The network's sizes from the metadata, as the fields that a `config.json` would have.

use moevolve_checkpoint::Result;
use moevolve_checkpoint::gguf::{Gguf, special};
use moevolve_kernels::stored::{Format, decode_row};
use serde_json::{Map, Value as Json, json};

use super::keys::{Keys, THETA, YARN_BETAS, refuse};
use super::names::ROPE_FREQS;
use super::rope::Llama3;
use crate::config::Config;

/// Architectures that can be read, and the model types behind them; `llama` with experts is `mixtral`, and what llama.cpp
/// writes of a Mistral is a `llama`, which is written for both.
pub(super) const ARCHITECTURES: [(&str, &str); 9] = [
    ("minimax-m2", "minimax_m2"),
    ("qwen3moe", "qwen3_moe"),
    ("olmoe", "olmoe"),
    ("llama", "llama"),
    ("llama", "mixtral"),
    ("llama", "mistral"),
    ("qwen3", "qwen3"),
    ("qwen2", "qwen2"),
    ("gpt-oss", "gpt_oss"),
];

/// llama.cpp's number for a router that squashes each score on its own.
pub(super) const SIGMOID: usize = 2;

/// The configuration of a file, or what is wrong with which key.
pub fn config(gguf: &Gguf<'_>) -> Result<Config> {
    let text = serde_json::to_string(&config_fields(gguf)?).expect("a map of JSON values is JSON");
    Config::parse(&text, &gguf.file)
}

/// Why a file of this architecture is not read.
fn unknown(architecture: &str) -> String {
    if architecture == "qwen35moe" {
        let advice = "give the model as a Hugging Face folder (qwen3_5_moe)";
        return format!("{architecture:?} is not read from a GGUF file: {advice}");
    }
    let mut known: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
    known.dedup();
    let shown: String = architecture.chars().take(40).collect();
    format!("{shown:?} is not supported, only {}", known.join(", "))
}

/// The fields of a `config.json` that says the same.
pub fn config_fields(gguf: &Gguf<'_>) -> Result<Map<String, Json>> {
    let Some(architecture) = gguf.text("general.architecture")? else {
        return gguf.wrong("general.architecture", "is missing");
    };
    match gguf.text("general.type")? {
        Some("adapter") => {
            let reason = "it is a LoRA adapter and no model: give its base model, with an adapter as PEFT's folder";
            return gguf.wrong("general.type", reason);
        }
        Some(kind @ ("mmproj" | "imatrix")) => {
            let reason = format!("it is {kind:?} and no model: it lies beside one");
            return gguf.wrong("general.type", reason);
        }
        _ => {}
    }
    let keys = Keys { gguf, architecture };
    let experts = match gguf.size(&keys.name("expert_count"))? {
        Some(0) | None => 0,
        Some(experts) => experts,
    };
    let found = ARCHITECTURES.iter().find(|(name, model_type)| {
        *name == architecture && (*name != "llama" || (*model_type == "mixtral") == (experts > 0))
    });
    let Some(&(_, model_type)) = found else {
        return gguf.wrong("general.architecture", unknown(architecture));
    };
    refuse(&keys, model_type)?;
    let (hidden, heads) = (
        keys.required("embedding_length")?,
        keys.required("attention.head_count")?,
    );
    let head = keys
        .optional("attention.key_length")?
        .unwrap_or((hidden / heads).max(1));
    if let Some(value) = keys
        .optional("attention.value_length")?
        .filter(|&v| v != head)
    {
        let reason = format!("{value} differs from the keys' {head}: not supported");
        return gguf.wrong(&keys.name("attention.value_length"), reason);
    }
    let Some(embedding) = gguf.tensor_named("token_embd.weight") else {
        return Err(gguf.torn("token_embd.weight", "is missing".to_owned()));
    };
    let [_, vocabulary] = embedding.dims[..] else {
        return Err(gguf.torn("token_embd.weight", "is not a matrix".to_owned()));
    };
    let rotated = keys.optional("rope.dimension_count")?.unwrap_or(head);
    let theta = keys.number("rope.freq_base")?.unwrap_or(THETA);
    let epsilon = match keys.number("attention.layer_norm_rms_epsilon")? {
        Some(epsilon) => epsilon,
        None => return gguf.wrong(&keys.name("attention.layer_norm_rms_epsilon"), "is missing"),
    };
    let inner = keys.optional("feed_forward_length")?;
    let mut fields = json!({
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": keys.required("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": keys.optional("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head,
        "vocab_size": vocabulary,
        "rms_norm_eps": narrowest(epsilon),
        "rope_theta": narrowest(theta),
        "hidden_act": "silu",
        "tie_word_embeddings": gguf.tensor_named("output.weight").is_none(),
        "dtype": "float32",
    })
    .as_object()
    .cloned()
    .unwrap_or_default();
    if let Some(positions) = keys.optional("context_length")? {
        fields.insert("max_position_embeddings".to_owned(), json!(positions));
    }
    if model_type != "minimax_m2" && model_type != "mixtral" {
        let biased = gguf.tensor_named("blk.0.attn_q.bias").is_some();
        fields.insert("attention_bias".to_owned(), json!(biased));
    }
    let ends = special::of(gguf)?.ends;
    if !ends.is_empty() {
        fields.insert("eos_token_id".to_owned(), json!(ends));
    }
    for (key, field) in [("bos", "bos_token_id"), ("padding", "pad_token_id")] {
        if let Some(id) = gguf.size(&format!("tokenizer.ggml.{key}_token_id"))? {
            fields.insert(field.to_owned(), json!(id));
        }
    }
    let mut rope = scaling(&keys, theta, rotated)?;
    rope.insert("rope_theta".to_owned(), json!(narrowest(theta)));
    if rotated != head {
        let part = json!(rotated as f64 / head as f64);
        rope.insert("partial_rotary_factor".to_owned(), part);
    }
    fields.insert("rope_parameters".to_owned(), Json::Object(rope));
    let expert_inner = keys.optional("expert_feed_forward_length")?.or(inner);
    let mut set = |key: &str, value: Json| fields.insert(key.to_owned(), value);
    match (model_type, expert_inner) {
        (_, None) => return gguf.wrong(&keys.name("feed_forward_length"), "is missing"),
        ("qwen3_moe", Some(width)) => {
            set("moe_intermediate_size", json!(width));
            set("intermediate_size", json!(inner.unwrap_or(width)));
        }
        (_, Some(width)) => drop(set("intermediate_size", json!(width))),
    }
    match model_type {
        "minimax_m2" => {
            set("num_local_experts", json!(experts));
            set("rotary_dim", json!(rotated));
            set("use_qk_norm", json!(true));
            set("qk_norm_type", json!("per_layer"));
            set("use_routing_bias", json!(true));
            let scoring = match gguf.size(&keys.name("expert_gating_func"))? {
                Some(SIGMOID) => "sigmoid",
                _ => "softmax",
            };
            set("scoring_func", json!(scoring));
        }
        "mixtral" => drop(set("num_local_experts", json!(experts))),
        "gpt_oss" => {
            set("num_local_experts", json!(experts));
            set(
                "sliding_window",
                json!(keys.required("attention.sliding_window")?),
            );
        }
        // llama.cpp has these two rules in its code, not in the file.
        "qwen3_moe" => {
            set("num_experts", json!(experts));
            set("norm_topk_prob", json!(true));
            set("decoder_sparse_step", json!(1));
            set("mlp_only_layers", json!([]));
        }
        "olmoe" => {
            set("num_experts", json!(experts));
            set("norm_topk_prob", json!(false));
            if let Some(clip) = keys.number("attention.clamp_kqv")? {
                set("clip_qkv", json!(clip));
            }
        }
        _ => {}
    }
    if experts > 0 {
        let chosen = keys.required("expert_used_count")?;
        fields.insert("num_experts_per_tok".to_owned(), json!(chosen));
    }
    Ok(fields)
}

/// An f32 of a file as the shortest number that rounds to it: 1e-6, not 9.999999974752427e-7.
fn narrowest(x: f64) -> f64 {
    let narrow = x as f32;
    if f64::from(narrow) == x {
        narrow.to_string().parse().unwrap_or(x)
    } else {
        x
    }
}

/// What each frequency is divided by, where the file says so in F32.
pub fn divisors(gguf: &Gguf<'_>) -> Option<Vec<f32>> {
    let tensor = gguf.tensor_named(ROPE_FREQS)?;
    let &[pairs] = &tensor.dims[..] else {
        return None;
    };
    (tensor.format == Format::F32).then(|| {
        let mut divisors = vec![0.0; pairs];
        decode_row(Format::F32, gguf.bytes_of(tensor), &mut divisors);
        divisors
    })
}

/// `rope_parameters`, from the scaling's keys or from the tensor of divisors.
fn scaling(keys: &Keys<'_, '_>, theta: f64, rotated: usize) -> Result<Map<String, Json>> {
    let gguf = keys.gguf;
    let mut rope = Map::new();
    let key = keys.name("rope.scaling.type");
    // As in llama.cpp: 0 stands for 1, a factor without a type is linear, and files of before there was a type call it otherwise.
    let factor = keys.number("rope.scaling.factor")?;
    let factor = factor.or(keys.number("rope.scale_linear")?);
    let factor = factor.map(|f| if f == 0.0 { 1.0 } else { f });
    let linear = factor.filter(|&f| f != 1.0);
    let kind = match (gguf.text(&key)?, linear) {
        (None, Some(_)) => "linear",
        (None, None) => "none",
        (Some(kind), _) => kind,
    };
    let attention = keys.number("rope.scaling.attn_factor")?;
    let attention = attention.filter(|&times| times != 1.0);
    if let Some(times) = attention.filter(|_| kind != "yarn") {
        let reason = format!("{times} is supported with yarn alone, not with {kind}");
        return gguf.wrong(&keys.name("rope.scaling.attn_factor"), reason);
    }
    match kind {
        "none" => {
            rope.insert("rope_type".to_owned(), json!("default"));
        }
        "linear" | "yarn" => {
            let Some(factor) = factor else {
                return gguf.wrong(&keys.name("rope.scaling.factor"), "is missing");
            };
            rope.insert("rope_type".to_owned(), json!(kind));
            rope.insert("factor".to_owned(), json!(narrowest(factor)));
            if let Some(original) = keys.optional("rope.scaling.original_context_length")? {
                rope.insert(
                    "original_max_position_embeddings".to_owned(),
                    json!(original),
                );
            }
            for (name, fixed) in [
                ("rope.scaling.yarn_beta_fast", YARN_BETAS.0),
                ("rope.scaling.yarn_beta_slow", YARN_BETAS.1),
            ] {
                if let Some(value) = keys.number(name)?.filter(|&value| value != fixed) {
                    let reason = format!(
                        "{value} is not supported, only {fixed}: llama.cpp computes that whatever it says"
                    );
                    return gguf.wrong(&keys.name(name), reason);
                }
            }
            // llama.cpp multiplies YaRN's own factor by this one, transformers takes the product.
            if let Some(times) = attention.filter(|_| kind == "yarn") {
                let whole = times * (1.0 + 0.1 * factor.max(1.0).ln());
                rope.insert("attention_factor".to_owned(), json!(whole));
            }
        }
        other => {
            let shown: String = other.chars().take(40).collect();
            return gguf.wrong(&key, format!("{shown:?} is not supported"));
        }
    }
    let divisors = divisors(gguf);
    if divisors.is_none() && gguf.tensor_named(ROPE_FREQS).is_none() {
        return Ok(rope);
    }
    let Some(divisors) = divisors.filter(|d| kind == "none" && d.len() == rotated / 2) else {
        let reason = format!(
            "must be {} numbers of F32, without another scaling",
            rotated / 2
        );
        return Err(gguf.torn(ROPE_FREQS, reason));
    };
    if divisors.iter().all(|&d| d == 1.0) {
        return Ok(rope);
    }
    match Llama3::fit(&divisors, theta) {
        Some(rule) => Ok(rule.fields()),
        None => Err(gguf.torn(
            ROPE_FREQS,
            "does not follow the rule of Llama 3, the only one supported".to_owned(),
        )),
    }
}
