//! `config.json` of a Hugging Face checkpoint of type `minimax_m2`.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Sizes of the network. Unknown fields of the file are kept and saved again.
#[derive(Clone, Debug)]
pub struct Config {
    pub vocabulary: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub key_heads: usize,
    pub head: usize,
    /// Rotated dimensions of a head.
    pub rotated: usize,
    pub theta: f64,
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

struct Fields<'a> {
    file: &'a str,
    map: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn wrong<T>(&self, key: &str, reason: impl Into<String>) -> Result<T> {
        Err(Error::Config {
            file: self.file.to_owned(),
            key: key.to_owned(),
            reason: reason.into(),
        })
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn size_or(&self, key: &str, default: Option<usize>) -> Result<usize> {
        match (self.get(key), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => self.wrong(key, "is missing"),
            (Some(value), _) => match value.as_u64() {
                Some(size @ 1..=0x7fff_ffff) => Ok(size as usize),
                _ => self.wrong(key, format!("{value} is not a positive whole number")),
            },
        }
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.size_or(key, None)
    }

    fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() && number > 0.0 => Ok(number),
                _ => self.wrong(key, format!("{value} is not a positive number")),
            },
        }
    }

    /// A field that may say only what this decoder does.
    fn only(&self, key: &str, allowed: &Value) -> Result<()> {
        match self.get(key) {
            Some(value) if value != allowed => {
                self.wrong(key, format!("{value} is not supported, only {allowed}"))
            }
            _ => Ok(()),
        }
    }
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
        let Value::Object(map) = value else {
            return Err(broken("is not a JSON object".to_owned()));
        };
        let fields = Fields { file, map: &map };
        match fields.get("model_type").and_then(Value::as_str) {
            Some("minimax_m2") => {}
            Some(other) => {
                return fields.wrong(
                    "model_type",
                    format!("{other} is not supported, only minimax_m2"),
                );
            }
            None => return fields.wrong("model_type", "is missing; minimax_m2 is supported"),
        }
        fields.only("hidden_act", &json!("silu"))?;
        fields.only("scoring_func", &json!("sigmoid"))?;
        fields.only("use_qk_norm", &json!(true))?;
        fields.only("qk_norm_type", &json!("per_layer"))?;
        fields.only("use_routing_bias", &json!(true))?;
        fields.only("shared_intermediate_size", &json!(0))?;
        if fields.get("quantization_config").is_some() {
            return fields.wrong(
                "quantization_config",
                "quantised checkpoints are not supported: dequantise first",
            );
        }
        let (hidden, heads) = (
            fields.size("hidden_size")?,
            fields.size("num_attention_heads")?,
        );
        let head = fields.size_or("head_dim", Some((hidden / heads).max(1)))?;
        let (rotated, theta) = rotary(&fields, head)?;
        let config = Self {
            vocabulary: fields.size("vocab_size")?,
            hidden,
            intermediate: fields.size("intermediate_size")?,
            layers: fields.size("num_hidden_layers")?,
            heads,
            key_heads: fields.size_or("num_key_value_heads", Some(heads))?,
            head,
            rotated,
            theta,
            experts: fields.size("num_local_experts")?,
            chosen: fields.size("num_experts_per_tok")?,
            epsilon: fields.number("rms_norm_eps", 1e-6)? as f32,
            positions: fields.size_or("max_position_embeddings", Some(196_608))?,
            tied: fields
                .get("tie_word_embeddings")
                .and_then(Value::as_bool)
                .unwrap_or(false),
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
        let [vocabulary, hidden, inner, layers, experts] = [
            self.vocabulary,
            self.hidden,
            self.intermediate,
            self.layers,
            self.experts,
        ]
        .map(|n| n as f64);
        let [queries, keys] =
            [self.heads, self.key_heads].map(|heads| heads as f64 * self.head as f64);
        let attention = hidden * (2.0 * queries + 2.0 * keys);
        let embeddings = vocabulary * hidden * if self.tied { 1.0 } else { 2.0 };
        embeddings + layers * (attention + experts * hidden * (1.0 + 3.0 * inner))
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

    /// What to write beside weights of this dtype: the fields as they came, and what transformers needs.
    pub fn to_json(&self, dtype: &str) -> String {
        let mut fields = self.fields.clone();
        fields.remove("torch_dtype");
        fields.insert("architectures".to_owned(), json!(["MiniMaxM2ForCausalLM"]));
        fields.insert("model_type".to_owned(), json!("minimax_m2"));
        fields.insert("dtype".to_owned(), json!(dtype));
        fields.insert("head_dim".to_owned(), json!(self.head));
        fields.insert("num_key_value_heads".to_owned(), json!(self.key_heads));
        fields.insert("rotary_dim".to_owned(), json!(self.rotated));
        fields.insert("rope_theta".to_owned(), json!(self.theta));
        let mut rope = fields
            .get("rope_parameters")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        rope.insert("rope_type".to_owned(), json!("default"));
        rope.insert("rope_theta".to_owned(), json!(self.theta));
        rope.insert(
            "partial_rotary_factor".to_owned(),
            json!(self.rotated as f64 / self.head as f64),
        );
        fields.insert("rope_parameters".to_owned(), Value::Object(rope));
        let mut text = serde_json::to_string_pretty(&fields).expect("a map of JSON values is JSON");
        text.push('\n');
        text
    }
}

/// Rotated dimensions and base: released files say `rotary_dim` and `rope_theta`, transformers `rope_parameters`.
fn rotary(fields: &Fields<'_>, head: usize) -> Result<(usize, f64)> {
    let empty = Map::new();
    let rope = fields
        .get("rope_parameters")
        .or_else(|| fields.get("rope_scaling"));
    let inner = Fields {
        file: fields.file,
        map: rope.and_then(Value::as_object).unwrap_or(&empty),
    };
    inner.only("rope_type", &json!("default"))?;
    let theta = match inner.get("rope_theta") {
        Some(_) => inner.number("rope_theta", 1.0)?,
        None => fields.number("rope_theta", 5e6)?,
    };
    let rotated = if inner.get("partial_rotary_factor").is_some() {
        (head as f64 * inner.number("partial_rotary_factor", 1.0)?) as usize
    } else if fields.get("rotary_dim").is_some() {
        fields.size("rotary_dim")?
    } else {
        (head as f64 * fields.number("partial_rotary_factor", 1.0)?) as usize
    };
    if rotated > head || !rotated.is_multiple_of(2) {
        let reason =
            format!("{rotated} rotated dimensions: an even number up to head_dim {head} is needed");
        return fields.wrong("rotary_dim", reason);
    }
    Ok((rotated, theta))
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
