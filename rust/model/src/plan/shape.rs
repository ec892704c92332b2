//! The sizes that weigh, read from `config.json` by family.

use serde_json::{Map, Value};

use moevolve_checkpoint::{Error, Result};

/// Wide integers: products of a few sizes of 31 bits are exact, so only a total has to be checked.
pub struct Shape {
    pub model_type: String,
    pub vocabulary: u128,
    pub hidden: u128,
    pub layers: u128,
    pub heads: u128,
    pub key_heads: u128,
    pub head: u128,
    /// Hidden width of an expert, their number, and how many a token takes; 0, 1 and 1 where all layers are dense.
    pub inner: u128,
    pub experts: u128,
    pub chosen: u128,
    /// Layers with one feed-forward block for every token, and its hidden width.
    pub dense_layers: u128,
    pub dense_inner: u128,
    /// Widths of the norms over queries and keys; 0 without.
    pub query_norm: u128,
    pub key_norm: u128,
    /// Biases of the projections to queries, keys and values, and of the one back.
    pub attention_bias: bool,
    pub output_bias: bool,
    pub mlp_bias: bool,
    pub router_bias: bool,
    /// Biases of the experts' matrices.
    pub expert_bias: bool,
    /// Layers of linear attention.
    pub linear_layers: u128,
    /// Of those: queries, keys and values; values alone; heads of values and their width; taps of the convolution.
    pub channels: u128,
    pub values: u128,
    pub value_heads: u128,
    pub value: u128,
    pub taps: u128,
    /// Queries of a layer with keys for each that counts: 2 where each is gated by a twin.
    pub twins: u128,
    /// Width of the expert that takes every token.
    pub shared: u128,
    /// A logit for each head that attention's softmax takes in.
    pub sinks: bool,
    pub tied: bool,
    pub positions: Option<u128>,
}

/// Families whose sizes are known.
const KNOWN: [&str; 10] = [
    "minimax_m2",
    "qwen3_moe",
    "olmoe",
    "mixtral",
    "gpt_oss",
    "qwen3_5_moe_text",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
];

struct Reader<'a> {
    map: &'a Map<String, Value>,
    file: &'a str,
}

impl Reader<'_> {
    fn wrong<T>(&self, key: &str, reason: String) -> Result<T> {
        Err(Error::Config {
            file: self.file.to_owned(),
            key: key.to_owned(),
            reason,
        })
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn optional(&self, key: &str) -> Result<Option<u128>> {
        match self.get(key).map(|value| (value, value.as_u64())) {
            None => Ok(None),
            // Four sizes make a product, and 16 numbers of it still fit.
            Some((_, Some(size @ 1..=0x3fff_ffff))) => Ok(Some(size.into())),
            Some((value, _)) => self.wrong(
                key,
                format!("{value} is not a positive whole number below 2^30"),
            ),
        }
    }

    fn size(&self, key: &str) -> Result<u128> {
        match self.optional(key)? {
            Some(size) => Ok(size),
            None => self.wrong(key, "is missing".to_owned()),
        }
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    /// Layers that `mlp_only_layers` and `decoder_sparse_step` keep dense.
    fn dense_layers(&self, layers: u128) -> Result<u128> {
        let step = self.optional("decoder_sparse_step")?.unwrap_or(1);
        let listed: std::collections::BTreeSet<u64> = self
            .get("mlp_only_layers")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_u64).collect())
            .unwrap_or_default();
        // Layer i (from 0) has experts if step divides i + 1 and it is not listed.
        let listed_sparse = listed
            .iter()
            .map(|&i| u128::from(i))
            .filter(|&i| i < layers && (i + 1).is_multiple_of(step))
            .count() as u128;
        Ok(layers - layers / step + listed_sparse)
    }
}

impl Shape {
    /// Fields that Hugging Face files of all families use.
    pub fn read(map: &Map<String, Value>, file: &str) -> Result<Self> {
        let mut reader = Reader { map, file };
        let model_type = match reader.get("model_type").and_then(Value::as_str) {
            Some(name) => name.to_owned(),
            None => return reader.wrong("model_type", "is missing".to_owned()),
        };
        // The family before its sizes, which others keep elsewhere.
        if !KNOWN.contains(&model_type.as_str()) {
            let reason = format!("{model_type} cannot be planned, only {}", KNOWN.join(", "));
            return reader.wrong("model_type", reason);
        }
        let named = format!("{file} ({model_type})");
        if reader.get("text_config").is_some() {
            reader.file = &named;
        }
        let (hidden, heads, layers) = (
            reader.size("hidden_size")?,
            reader.size("num_attention_heads")?,
            reader.size("num_hidden_layers")?,
        );
        let key_heads = reader.optional("num_key_value_heads")?.unwrap_or(heads);
        let head = reader
            .optional("head_dim")?
            .unwrap_or((hidden / heads).max(1));
        let mut shape = Self {
            vocabulary: reader.size("vocab_size")?,
            hidden,
            layers,
            heads,
            key_heads,
            head,
            inner: 0,
            experts: 1,
            chosen: 1,
            dense_layers: 0,
            dense_inner: 0,
            query_norm: 0,
            key_norm: 0,
            attention_bias: reader.flag("attention_bias", false),
            output_bias: true,
            mlp_bias: reader.flag("mlp_bias", false),
            router_bias: false,
            expert_bias: false,
            linear_layers: 0,
            channels: 0,
            values: 0,
            value_heads: 0,
            value: 0,
            taps: 0,
            twins: 1,
            shared: 0,
            sinks: false,
            tied: reader.flag("tie_word_embeddings", false),
            positions: reader.optional("max_position_embeddings")?,
            model_type,
        };
        match shape.model_type.as_str() {
            "minimax_m2" | "qwen3_moe" | "olmoe" | "mixtral" | "gpt_oss" | "qwen3_5_moe_text" => {
                shape.read_experts(&reader)?;
            }
            "llama" | "qwen3" | "mistral" | "qwen2" => {
                shape.dense_layers = layers;
                shape.dense_inner = reader.size("intermediate_size")?;
            }
            _ => {}
        }
        match shape.model_type.as_str() {
            "minimax_m2" if !reader.flag("use_qk_norm", true) => {}
            "minimax_m2" | "olmoe" => {
                (shape.query_norm, shape.key_norm) = (heads * head, key_heads * head);
            }
            "qwen3_5_moe_text" => {
                (shape.query_norm, shape.key_norm) = (head, head);
                shape.read_linear(&reader)?;
            }
            "qwen3" | "qwen3_moe" => (shape.query_norm, shape.key_norm) = (head, head),
            "qwen2" => (shape.attention_bias, shape.output_bias) = (true, false),
            "gpt_oss" => {
                shape.attention_bias = reader.flag("attention_bias", true);
                (shape.router_bias, shape.expert_bias, shape.sinks) = (true, true, true);
            }
            _ => {}
        }
        Ok(shape)
    }

    fn read_linear(&mut self, reader: &Reader<'_>) -> Result<()> {
        let size = |key: &str, absent: u128| Ok(reader.optional(key)?.unwrap_or(absent));
        let key_heads = size("linear_num_key_heads", 16)?;
        let key = size("linear_key_head_dim", 128)?;
        self.value_heads = size("linear_num_value_heads", 32)?;
        self.value = size("linear_value_head_dim", 128)?;
        self.taps = size("linear_conv_kernel_dim", 4)?;
        self.values = self.value_heads * self.value;
        self.channels = 2 * key_heads * key + self.values;
        self.shared = size("shared_expert_intermediate_size", 512)?;
        self.twins = 2;
        let interval = size("full_attention_interval", 4)?;
        self.linear_layers = match reader.get("layer_types").and_then(Value::as_array) {
            None => self.layers - self.layers / interval,
            Some(kinds) => {
                let linear = kinds.iter().filter(|kind| *kind == "linear_attention");
                (linear.count() as u128).min(self.layers)
            }
        };
        Ok(())
    }

    fn read_experts(&mut self, reader: &Reader<'_>) -> Result<()> {
        let (count, inner) = match self.model_type.as_str() {
            "qwen3_moe" | "qwen3_5_moe_text" => ("num_experts", "moe_intermediate_size"),
            "olmoe" => ("num_experts", "intermediate_size"),
            _ => ("num_local_experts", "intermediate_size"),
        };
        // transformers 5 writes either name.
        let other = if count == "num_experts" {
            "num_local_experts"
        } else {
            "num_experts"
        };
        self.experts = match reader.optional(other)? {
            Some(experts) if reader.get(count).is_none() => experts,
            _ => reader.size(count)?,
        };
        self.inner = reader.size(inner)?;
        self.chosen = reader.size("num_experts_per_tok")?;
        if self.chosen > self.experts {
            let reason = format!("{} are more than the {} experts", self.chosen, self.experts);
            return reader.wrong("num_experts_per_tok", reason);
        }
        if self.model_type == "qwen3_moe" {
            self.dense_layers = reader.dense_layers(self.layers)?;
            if self.dense_layers > 0 {
                self.dense_inner = reader.size("intermediate_size")?;
            }
        }
        self.router_bias = self.model_type == "minimax_m2" && reader.flag("use_routing_bias", true);
        Ok(())
    }
}
