//! A configuration as the metadata of one of llama.cpp's architectures, or why it has none.

use moevolve_checkpoint::gguf::Entry;
use moevolve_kernels::frequencies::Scaling;
use serde_json::{Map, Value as Json};

use super::config::{ARCHITECTURES, SIGMOID};
use super::export::Target;
use super::keys::YARN_BETAS;
use super::rope::Llama3;
use crate::config::Config;
use crate::family::Family;

/// Families without experts.
const DENSE: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

/// The fields of `config.json`, with every default spelt out.
pub fn fields(config: &Config) -> Result<Map<String, Json>, String> {
    let name = config.family.describe().model_type;
    if !ARCHITECTURES.iter().any(|(_, known)| *known == name) || config.family == Family::GptOss {
        let advice = "leave .gguf out of the name";
        return Err(format!(
            "a {name} is saved as a Hugging Face folder alone: {advice}"
        ));
    }
    if config.windows.any(config.layers) {
        return Err(format!(
            "llama.cpp's {name} has no window that slides (sliding_window)"
        ));
    }
    let text = config.to_json("float32");
    match serde_json::from_str(&text) {
        Ok(Json::Object(mut fields)) => {
            let sizes = [
                ("hidden_size", config.hidden),
                ("num_attention_heads", config.heads),
                ("num_key_value_heads", config.key_heads),
                ("num_hidden_layers", config.layers),
                ("head_dim", config.head),
                ("vocab_size", config.vocabulary),
                ("max_position_embeddings", config.positions),
            ];
            for (key, size) in sizes {
                fields.insert(key.to_owned(), size.into());
            }
            fields.insert("rms_norm_eps".to_owned(), config.epsilon.into());
            Ok(fields)
        }
        _ => Err("its configuration is not an object".to_owned()),
    }
}

/// Metadata under the architecture's keys.
pub fn entries(
    config: &Config,
    fields: &Map<String, Json>,
    target: Target,
) -> Result<Vec<(String, Entry)>, String> {
    let model_type = text(fields, "model_type").unwrap_or_default();
    let known = ARCHITECTURES.iter().find(|(_, name)| *name == model_type);
    let Some(&(architecture, _)) = known else {
        return Err(format!("llama.cpp's {model_type} is not known here"));
    };
    refuse(fields, model_type)?;
    let mut out: Vec<(String, Entry)> = vec![
        (
            "general.architecture".to_owned(),
            Entry::String(architecture.to_owned()),
        ),
        (
            "general.file_type".to_owned(),
            Entry::U32(target.file_type()),
        ),
        ("general.quantization_version".to_owned(), Entry::U32(2)),
    ];
    let mut put = |key: &str, entry: Entry| out.push((format!("{architecture}.{key}"), entry));
    for (key, field) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
        ("vocab_size", "vocab_size"),
    ] {
        if let Some(n) = size(fields, field) {
            put(key, Entry::U32(n));
        }
    }
    // A dense family's file may hold these fields, too.
    let experts = size(fields, "num_local_experts").or(size(fields, "num_experts"));
    if let Some(n) = experts.filter(|_| !DENSE.contains(&model_type)) {
        put("expert_count", Entry::U32(n));
        if let Some(n) = size(fields, "num_experts_per_tok") {
            put("expert_used_count", Entry::U32(n));
        }
        let inner = size(fields, "moe_intermediate_size").or(size(fields, "intermediate_size"));
        if let Some(n) = inner {
            put("expert_feed_forward_length", Entry::U32(n));
            if model_type == "qwen3_moe" && size(fields, "intermediate_size").is_none() {
                put("feed_forward_length", Entry::U32(n));
            }
        }
    }
    if model_type == "minimax_m2" {
        put("expert_gating_func", Entry::U32(SIGMOID as u32));
    }
    let epsilon = number(fields, "rms_norm_eps").unwrap_or(1e-6);
    put(
        "attention.layer_norm_rms_epsilon",
        Entry::F32(epsilon as f32),
    );
    let head = size(fields, "head_dim").unwrap_or(0);
    let rotated = size(fields, "rotary_dim").filter(|_| model_type == "minimax_m2");
    put("rope.dimension_count", Entry::U32(rotated.unwrap_or(head)));
    put("rope.freq_base", Entry::F32(config.theta as f32));
    scaling(config.scaling, &mut put)?;
    Ok(out)
}

/// What these architectures do otherwise in llama.cpp.
fn refuse(fields: &Map<String, Json>, model_type: &str) -> Result<(), String> {
    let normalised = fields.get("norm_topk_prob").and_then(Json::as_bool);
    let biased = fields.get("attention_bias") == Some(&Json::Bool(true));
    let same = |a, b| size(fields, a) == size(fields, b);
    match model_type {
        "qwen3_moe" if normalised != Some(true) => Err(
            "llama.cpp's qwen3moe always normalises the experts' weights (norm_topk_prob)"
                .to_owned(),
        ),
        "olmoe" if normalised == Some(true) => Err(
            "llama.cpp's olmoe never normalises the experts' weights (norm_topk_prob)".to_owned(),
        ),
        "olmoe" if !same("num_attention_heads", "num_key_value_heads") => {
            Err("llama.cpp's olmoe has as many key heads as heads".to_owned())
        }
        "qwen3" | "qwen3_moe" | "olmoe" if biased => {
            Err(format!("llama.cpp's {model_type} has no attention biases"))
        }
        _ => Ok(()),
    }
}

fn scaling(scaling: Scaling, put: &mut impl FnMut(&str, Entry)) -> Result<(), String> {
    match scaling {
        // Llama 3's rule is written as a tensor.
        Scaling::Plain | Scaling::Llama3 { .. } => {}
        Scaling::Linear { factor } => {
            put("rope.scaling.type", Entry::String("linear".to_owned()));
            put("rope.scaling.factor", Entry::F32(factor as f32));
        }
        Scaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original,
            attention,
            truncate,
        } => {
            // What llama.cpp computes itself, and has no key for.
            let own = 1.0 + 0.1 * factor.max(1.0).ln();
            if (attention - own).abs() > 1e-6 * own {
                return Err(format!(
                    "llama.cpp computes YaRN's attention_factor itself: {own:.4}, not {attention:.4}"
                ));
            }
            if (beta_fast, beta_slow) != YARN_BETAS {
                let (fast, slow) = YARN_BETAS;
                return Err(format!(
                    "llama.cpp blends YaRN between beta_fast {fast} and beta_slow {slow} in every file, not {beta_fast} and {beta_slow}"
                ));
            }
            if !truncate {
                return Err("llama.cpp rounds the ends of YaRN's blend (truncate)".to_owned());
            }
            if original.fract() != 0.0 || original > f64::from(u32::MAX) {
                return Err(format!(
                    "its original_max_position_embeddings {original} is no whole number"
                ));
            }
            put("rope.scaling.type", Entry::String("yarn".to_owned()));
            put("rope.scaling.factor", Entry::F32(factor as f32));
            put(
                "rope.scaling.original_context_length",
                Entry::U32(original as u32),
            );
        }
    }
    Ok(())
}

/// The tensor of frequency divisors, where the scaling is Llama 3's.
pub fn divisors(config: &Config) -> Option<Vec<f32>> {
    let Scaling::Llama3 {
        factor,
        low,
        high,
        original,
    } = config.scaling
    else {
        return None;
    };
    let rule = Llama3 {
        factor,
        low,
        high,
        original,
    };
    let divisors = rule.divisors(config.theta, config.head);
    Some(divisors.into_iter().map(|x| x as f32).collect())
}

fn size(fields: &Map<String, Json>, key: &str) -> Option<u32> {
    let n = fields.get(key)?.as_u64()?;
    u32::try_from(n).ok()
}

fn number(fields: &Map<String, Json>, key: &str) -> Option<f64> {
    fields.get(key)?.as_f64()
}

fn text<'a>(fields: &'a Map<String, Json>, key: &str) -> Option<&'a str> {
    fields.get(key)?.as_str()
}
