//! `config.json` of a Hugging Face checkpoint.
//!
//! One file above 400 lines: what is read of the file and what is written back stand side by side.

use moevolve_kernels::activation::Activation;
use moevolve_kernels::frequencies::Scaling;
use moevolve_kernels::route::Rule;
use serde_json::{Map, Value, json};

use crate::family::{AttentionBias, Description, Family, QkNorm};
use crate::fields::Fields;
use crate::linear_attention::{self, Linear};
use crate::positions;
use crate::windows::{self, Windows};
use moevolve_checkpoint::{Error, Result};

/// Sizes and kind of the network. Unknown fields of the file are kept and saved again.
#[derive(Clone, Debug)]
pub struct Config {
    pub family: Family,
    pub vocabulary: usize,
    pub hidden: usize,
    /// Width of one expert, or of the whole block of a dense family.
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub key_heads: usize,
    pub head: usize,
    /// Rotated dimensions of a head.
    pub rotated: usize,
    pub theta: f64,
    pub scaling: Scaling,
    pub qk_norm: QkNorm,
    /// Whether the projections to queries, keys and values have biases, and the one back.
    pub attention_bias: bool,
    pub output_bias: bool,
    /// Which layers see the newest keys only.
    pub windows: Windows,
    /// Layers of linear attention, if there are any.
    pub linear: Option<Linear>,
    /// Width of the expert that takes every token; 0 if there is none.
    pub shared: usize,
    pub rule: Rule,
    pub activation: Activation,
    /// 1 if the rule is dense.
    pub experts: usize,
    /// Experts per token.
    pub chosen: usize,
    pub epsilon: f32,
    pub positions: usize,
    pub tied: bool,
    pub initializer_range: f64,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Everything the file said.
    pub fields: Map<String, Value>,
}

impl Config {
    /// Reads the text of `config.json`; `file` names it in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let broken = |reason: String| Error::File {
            file: file.to_owned(),
            reason,
        };
        let value: Value =
            serde_json::from_str(text).map_err(|e| broken(format!("is not JSON: {e}")))?;
        let Value::Object(mut map) = value else {
            return Err(broken("is not a JSON object".to_owned()));
        };
        let mut file = file.to_owned();
        if let Some(inner) = text_config(&map) {
            (map, file) = (inner, within_wrapper(&file));
        }
        let file = &*file;
        positions::fill(&mut map);
        let fields = Fields { file, map: &map };
        let family = match fields.get("model_type").and_then(Value::as_str) {
            Some(name) => match Family::named(name) {
                Some(family) => family,
                None => {
                    let reason = format!("{name} is not supported, only {}", Family::known());
                    return fields.wrong("model_type", reason);
                }
            },
            None => {
                let reason = format!("is missing; supported are {}", Family::known());
                return fields.wrong("model_type", reason);
            }
        };
        let described = family.describe();
        refuse_unsupported(&fields, described)?;
        let (hidden, heads) = (
            fields.size("hidden_size")?,
            fields.size("num_attention_heads")?,
        );
        let default = described.head.unwrap_or((hidden / heads).max(1));
        let head = fields.size_or("head_dim", Some(default))?;
        let positions = fields.size_or("max_position_embeddings", Some(described.positions))?;
        let rotary = positions::rotary(&fields, described, head, positions)?;
        let (experts, chosen) = match described.rule {
            Rule::Dense => (1, 1),
            _ => {
                // transformers reads either name in every family.
                let names = ["num_local_experts", "num_experts"];
                let name = names.into_iter().find(|name| fields.get(name).is_some());
                (
                    fields.size(name.unwrap_or(names[0]))?,
                    fields.size("num_experts_per_tok")?,
                )
            }
        };
        let layers = fields.size("num_hidden_layers")?;
        let (attention_bias, output_bias) = match described.attention_bias {
            AttentionBias::None => (false, false),
            AttentionBias::Inputs => (true, false),
            AttentionBias::Switched { absent } => {
                let biased = fields.flag("attention_bias", absent)?;
                (biased, biased)
            }
        };
        let activation = if described.clamped {
            Activation::Clamped {
                alpha: fields.number("swiglu_alpha", 1.702)? as f32,
                limit: fields.number("swiglu_limit", 7.0)? as f32,
            }
        } else {
            Activation::Silu
        };
        let key_heads = match (map.get("num_key_value_heads"), described.key_heads) {
            (None, Some(absent)) => absent,
            _ => fields.size_or("num_key_value_heads", Some(heads))?,
        };
        let rule = match described.rule {
            Rule::Softmax { normalised } => Rule::Softmax {
                normalised: normalised
                    || described.chooses_norm && fields.flag("norm_topk_prob", false)?,
            },
            rule => rule,
        };
        let config = Self {
            family,
            vocabulary: fields.size("vocab_size")?,
            hidden,
            intermediate: fields.size(described.intermediate)?,
            layers,
            heads,
            key_heads,
            head,
            rotated: rotary.rotated,
            theta: rotary.theta,
            scaling: rotary.scaling,
            qk_norm: described.qk_norm,
            attention_bias,
            output_bias,
            windows: windows::read(&fields, described, layers, positions)?,
            linear: linear_attention::read(&fields, described, layers)?,
            shared: if described.extras.shared {
                fields.size_or("shared_expert_intermediate_size", Some(512))?
            } else {
                0
            },
            rule,
            activation,
            experts,
            chosen,
            epsilon: fields.number("rms_norm_eps", described.epsilon)? as f32,
            positions,
            tied: fields.flag("tie_word_embeddings", false)?,
            initializer_range: fields.number("initializer_range", 0.02)?,
            eos: eos(&map, file)?,
            fields: map.clone(),
        };
        if !config.heads.is_multiple_of(config.key_heads) {
            return fields.wrong(
                "num_key_value_heads",
                format!("{} does not divide {heads} heads", config.key_heads),
            );
        }
        if config.chosen > config.experts {
            let reason = format!(
                "{} are more than the {} experts",
                config.chosen, config.experts
            );
            return fields.wrong("num_experts_per_tok", reason);
        }
        config.check_eos(&config.eos, file)?;
        Ok(config)
    }

    /// Trained numbers of this architecture, as a float because a torn file can ask for more than there are integers.
    pub fn parameters(&self) -> f64 {
        let matrices = if self.tied { 1.0 } else { 2.0 };
        let hidden = self.hidden as f64;
        matrices * self.vocabulary as f64 * hidden
            + self.layers as f64 * self.layer_parameters(false)
            + self.linear_layers() * (self.layer_parameters(true) - self.layer_parameters(false))
            + hidden
    }

    fn linear_layers(&self) -> f64 {
        let linear = self.linear.as_ref();
        linear.map_or(0, |linear| linear.count(self.layers)) as f64
    }

    /// Whether a layer's attention is linear.
    pub fn is_linear(&self, layer: usize) -> bool {
        self.linear.as_ref().is_some_and(|linear| linear.is(layer))
    }

    /// Trained numbers of a layer, of linear attention or not.
    fn layer_parameters(&self, is_linear: bool) -> f64 {
        let [hidden, inner, head] = [self.hidden, self.intermediate, self.head].map(|n| n as f64);
        let [queries, keys] = [self.heads, self.key_heads].map(|heads| heads as f64 * head);
        let described = self.family.describe();
        let counted = |has: bool, numbers: f64| if has { numbers } else { 0.0 };
        let experts = self.experts as f64;
        let biases = counted(self.attention_bias, queries + 2.0 * keys)
            + counted(self.output_bias, hidden)
            + counted(described.sinks, self.heads as f64)
            + counted(
                described.expert_bias,
                experts * (1.0 + 2.0 * inner + hidden),
            );
        let gains = match self.qk_norm {
            QkNorm::None => 0.0,
            QkNorm::PerHead => 2.0 * head,
            QkNorm::Whole => queries + keys,
        };
        let router = match self.rule {
            Rule::Dense => 0.0,
            _ => experts * hidden,
        };
        let gated = counted(described.extras.linear, hidden * queries);
        let mixer = match &self.linear {
            Some(Linear { sizes, .. }) if is_linear => {
                let [channels, heads, value, taps] =
                    [sizes.channels(), sizes.value_heads, sizes.value, sizes.taps]
                        .map(|n| n as f64);
                hidden * (channels + 2.0 * heads * value + 2.0 * heads)
                    + channels * taps
                    + 2.0 * heads
                    + value
            }
            _ => {
                let asked = if self.attention_bias { 1.0 } else { 0.0 };
                let biases = biases + counted(described.extras.linear, asked * queries);
                hidden * (2.0 * queries + 2.0 * keys) + gated + biases + gains
            }
        };
        let shared = self.shared as f64;
        mixer
            + 2.0 * hidden
            + router
            + counted(self.shared > 0, hidden * (3.0 * shared + 1.0))
            + experts * 3.0 * hidden * inner
    }

    /// Tensors that a checkpoint of this configuration holds, experts apart; a float for the same reason.
    pub fn tensors(&self) -> f64 {
        let described = self.family.describe();
        let counted = |has: bool, tensors: f64| if has { tensors } else { 0.0 };
        let experts = self.experts as f64;
        let biases = counted(self.attention_bias, 3.0)
            + counted(self.output_bias, 1.0)
            + counted(described.sinks, 1.0)
            + counted(described.expert_bias, 1.0 + 3.0 * experts);
        let gains = if self.qk_norm == QkNorm::None {
            0.0
        } else {
            2.0
        };
        let router = match self.rule {
            Rule::Dense => 0.0,
            Rule::Softmax { .. } => 1.0,
            Rule::Sigmoid => 2.0,
        };
        let layer = 6.0 + biases + gains + router + 3.0 * experts;
        let head = if self.tied { 0.0 } else { 1.0 };
        let layer = layer + counted(self.shared > 0, 4.0);
        // Nine tensors instead of those of attention.
        let more = 9.0 - (4.0 + biases + gains);
        2.0 + head + self.layers as f64 * layer + self.linear_layers() * more
    }

    /// Whether a tensor is left unread: rotary frequencies are computed, and the layers for multi-token prediction that
    /// `use_mtp` announces (`mtp.*`, `model.mtp.*`, or `model.layers.N.*` past the last layer) draft, but do not answer.
    pub fn leaves_unread(&self, name: &str) -> bool {
        if name.ends_with("rotary_emb.inv_freq") {
            return true;
        }
        if self.family == Family::Qwen35Moe && name.starts_with("model.visual.") {
            return true;
        }
        if name.starts_with("mtp.") || name.starts_with("model.mtp.") {
            return true;
        }
        let modules = MTP_COUNTS
            .into_iter()
            .filter_map(|key| self.fields.get(key).and_then(Value::as_u64))
            .max()
            .unwrap_or(u64::from(
                self.fields.get("use_mtp").and_then(Value::as_bool) == Some(true),
            ));
        let layer = name
            .strip_prefix("model.layers.")
            .and_then(|rest| rest.split('.').next())
            .and_then(|number| number.parse::<u64>().ok());
        layer.is_some_and(|n| n >= self.layers as u64 && n - (self.layers as u64) < modules)
    }

    /// Refuses end tokens outside the vocabulary.
    pub fn check_eos(&self, eos: &[u32], file: &str) -> Result<()> {
        match eos.iter().find(|&&id| id as usize >= self.vocabulary) {
            None => Ok(()),
            Some(id) => Err(Error::Config {
                file: file.to_owned(),
                key: "eos_token_id".to_owned(),
                reason: format!("{id} is outside the vocabulary of {}", self.vocabulary),
            }),
        }
    }

    /// The rotated part of a head: readers take the whole part of head times factor, which must not fall short by a rounding.
    fn factor(&self) -> f64 {
        let factor = self.rotated as f64 / self.head as f64;
        let short = ((self.head as f64 * factor) as usize) < self.rotated;
        if short { factor.next_up() } else { factor }
    }

    /// What to write beside weights of this dtype: the fields as they came, and what transformers needs.
    pub fn to_json(&self, dtype: &str) -> String {
        let described = self.family.describe();
        let mut fields = self.fields.clone();
        for gone in ["torch_dtype", "quantization_config", "rope_scaling"] {
            fields.remove(gone);
        }
        fields.insert("architectures".to_owned(), json!([described.architecture]));
        fields.insert("model_type".to_owned(), json!(described.model_type));
        fields.insert("dtype".to_owned(), json!(dtype));
        fields.insert("head_dim".to_owned(), json!(self.head));
        fields.insert("num_key_value_heads".to_owned(), json!(self.key_heads));
        fields.insert("tie_word_embeddings".to_owned(), json!(self.tied));
        fields.insert("rope_theta".to_owned(), json!(self.theta));
        let mut rope = positions::said(&self.fields).cloned().unwrap_or_default();
        rope.insert("rope_theta".to_owned(), json!(self.theta));
        let kind = match self.scaling {
            Scaling::Plain => "default",
            Scaling::Linear { .. } => "linear",
            Scaling::Llama3 { .. } => "llama3",
            Scaling::Yarn { .. } => "yarn",
        };
        rope.insert("rope_type".to_owned(), json!(kind));
        if self.family == Family::Qwen35Moe {
            rope.insert("partial_rotary_factor".to_owned(), json!(self.factor()));
        }
        if self.family == Family::MiniMaxM2 {
            fields.insert("rotary_dim".to_owned(), json!(self.rotated));
            rope.insert("partial_rotary_factor".to_owned(), json!(self.factor()));
        }
        fields.insert("rope_parameters".to_owned(), Value::Object(rope));
        let mut text = serde_json::to_string_pretty(&fields).expect("a map of JSON values is JSON");
        text.push('\n');
        text
    }
}

/// Keys that count layers for multi-token prediction.
const MTP_COUNTS: [&str; 2] = ["num_mtp_modules", "num_nextn_predict_layers"];

/// What errors call the file of settings that [`text_config`] took out of it.
pub fn within_wrapper(file: &str) -> String {
    format!("{file} (text_config of qwen3_5_moe)")
}

/// The language model's part of a configuration that wraps it beside one of images.
pub fn text_config(map: &Map<String, Value>) -> Option<Map<String, Value>> {
    if map.get("model_type").and_then(Value::as_str) != Some("qwen3_5_moe") {
        return None;
    }
    let mut inner = map.get("text_config")?.as_object()?.clone();
    let name = Family::Qwen35Moe.describe().model_type;
    inner.insert("model_type".to_owned(), json!(name));
    for key in ["tie_word_embeddings", "quantization_config"] {
        if let Some(value) = map.get(key) {
            inner.insert(key.to_owned(), value.clone());
        }
    }
    if !inner.contains_key("eos_token_id")
        && let Some(value) = map.get("eos_token_id")
    {
        inner.insert("eos_token_id".to_owned(), value.clone());
    }
    Some(inner)
}

/// Refuses by name what would change the network and is not built.
fn refuse_unsupported(fields: &Fields<'_>, described: &Description) -> Result<()> {
    fields.only("hidden_act", &json!("silu"))?;
    // transformers attends both ways where this says anything but true, null among it.
    if let Some(value) = fields.map.get("is_causal").filter(|v| **v != json!(true)) {
        return fields.wrong("is_causal", format!("{value} is not supported, only true"));
    }
    match described.family {
        Family::MiniMaxM2 => {
            fields.only("scoring_func", &json!("sigmoid"))?;
            fields.only("use_qk_norm", &json!(true))?;
            fields.only("qk_norm_type", &json!("per_layer"))?;
            fields.only("use_routing_bias", &json!(true))?;
            fields.only("shared_intermediate_size", &json!(0))?;
            fields.every("attn_type_list", &json!(1))?;
        }
        Family::Qwen3Moe => {
            fields.only("decoder_sparse_step", &json!(1))?;
            fields.only("mlp_only_layers", &json!([]))?;
        }
        Family::Llama => fields.only("mlp_bias", &json!(false))?,
        Family::Olmoe => {
            if let Some(value) = fields.get("clip_qkv") {
                return fields.wrong("clip_qkv", format!("{value} is not supported, only null"));
            }
        }
        Family::Mixtral
        | Family::Qwen3
        | Family::Mistral
        | Family::Qwen2
        | Family::GptOss
        | Family::Qwen35Moe => {}
    }
    for key in MTP_COUNTS {
        fields.count_or(key)?;
    }
    fields.flag("use_mtp", false)?;
    let Some(quantised) = fields.get("quantization_config") else {
        return Ok(());
    };
    let Value::Object(map) = quantised else {
        return fields.wrong("quantization_config", "is not an object");
    };
    let inner = Fields {
        file: fields.file,
        map,
    };
    let method = inner.get("quant_method").and_then(Value::as_str);
    if described.interleaved && method == Some("mxfp4") {
        return Ok(());
    }
    if method != Some("fp8") {
        let method = inner.get("quant_method").unwrap_or(&Value::Null);
        let reason = format!(
            "method {method} is not supported, only fp8 in blocks of 128: dequantise first"
        );
        return fields.wrong("quantization_config", reason);
    }
    inner.only("weight_block_size", &json!([128, 128]))?;
    // Vendors spell the one format of such blocks in several ways.
    let spelt = inner.get("fmt").unwrap_or(&Value::Null);
    match spelt.as_str().map(str::to_ascii_lowercase).as_deref() {
        None if spelt.is_null() => Ok(()),
        Some(
            "float8_e4m3fn" | "e4m3" | "e4m3fn" | "fp8_e4m3" | "fp8_e4m3fn" | "float8_e4m3"
            | "f8_e4m3",
        ) => Ok(()),
        _ => inner.wrong(
            "fmt",
            format!("{spelt} is not supported, only float8_e4m3fn (e4m3)"),
        ),
    }
}

/// `eos_token_id` of a config or generation config: absent, one, or several.
pub fn eos(map: &Map<String, Value>, file: &str) -> Result<Vec<u32>> {
    let wrong = |value: &Value| Error::Config {
        file: file.to_owned(),
        key: "eos_token_id".to_owned(),
        reason: format!("{value} is not a token id"),
    };
    let id = |value: &Value| {
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| wrong(value))
    };
    match map.get("eos_token_id") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}
