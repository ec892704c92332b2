//! What tells one family of decoders from another: one description each, one decoder for all.
//!
//! One file above 400 lines: the descriptions are one table.

#[cfg(doc)]
use moevolve_kernels::activation::Activation;
use moevolve_kernels::route::Rule;

/// A `model_type` of Hugging Face that this decoder runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    MiniMaxM2,
    Qwen3Moe,
    Olmoe,
    Mixtral,
    Llama,
    Qwen3,
    Mistral,
    Qwen2,
    GptOss,
    Qwen35Moe,
}

/// What queries and keys are normalised over before they are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    None,
    /// Each head alone, with one gain for all heads.
    PerHead,
    /// All heads at once, before they are split.
    Whole,
}

/// When layers see a window of the newest keys only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    Never,
    /// Nothing agrees on what `sliding_window` means here: refused below the context.
    Refused,
    /// In every layer, where `sliding_window` is set; a file without the key means `absent`.
    Always {
        absent: Option<usize>,
    },
    /// In every layer, if `use_sliding_window` says so.
    Switched,
    /// If `use_sliding_window` says so, in the layers that `layer_types` lists, or in those from `max_window_layers` on.
    SwitchedLate,
    /// In the layers that `layer_types` lists, or in every other one from the first on.
    Alternating,
}

/// What a block has beside attention over all tokens and routed experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extras {
    /// Layers of linear attention (`layer_types`, `full_attention_interval`, `linear_*`), and full ones whose output is
    /// gated by a twin of the queries.
    pub linear: bool,
    /// Whether an expert of its own takes every token (`shared_expert_intermediate_size`), weighed by a gate.
    pub shared: bool,
    /// Whether a norm's gain is one more than its weight, gated ones apart.
    pub centred: bool,
}

/// Nothing.
const PLAIN: Extras = Extras {
    linear: false,
    shared: false,
    centred: false,
};

/// Which projections of attention have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionBias {
    None,
    /// All four if `attention_bias` says so; a file without the key means `absent`.
    Switched {
        absent: bool,
    },
    /// Those to queries, keys and values.
    Inputs,
}

/// A family: its names, the keys of its `config.json`, and what the file may leave out.
#[derive(Debug)]
pub struct Description {
    pub family: Family,
    pub model_type: &'static str,
    pub architecture: &'static str,
    pub qk_norm: QkNorm,
    /// The router's rule; a softmax is normalised if `norm_topk_prob` says so, unless it always is.
    pub rule: Rule,
    /// Whether `norm_topk_prob` chooses between the softmax rules.
    pub chooses_norm: bool,
    pub attention_bias: AttentionBias,
    pub window: Window,
    /// Whether each query head has a logit that takes part in attention's softmax and has no value.
    pub sinks: bool,
    /// Whether the router and the experts' matrices have biases.
    pub expert_bias: bool,
    /// Whether experts are gated by [`Activation::Clamped`], with `swiglu_alpha` and `swiglu_limit`.
    pub clamped: bool,
    /// Whether files have the experts of a layer in one tensor, transposed, the columns of gate and up taking turns.
    pub interleaved: bool,
    pub extras: Extras,
    /// The part of a head that is rotated, where the file says nothing.
    pub rotated: f64,
    /// Name of the block after attention.
    pub block: &'static str,
    /// Name of the router in it.
    pub router: &'static str,
    /// Names of an expert's gate, up and down matrices.
    pub expert: [&'static str; 3],
    /// Key of an expert's width.
    pub intermediate: &'static str,
    /// `head_dim` where the file has none; else hidden_size / num_attention_heads.
    pub head: Option<usize>,
    /// `num_key_value_heads` where the file has no such key; else num_attention_heads.
    pub key_heads: Option<usize>,
    pub theta: f64,
    pub epsilon: f64,
    pub positions: usize,
}

const MIXTRAL_NAMES: [&str; 3] = ["w1", "w3", "w2"];
const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// Llama, with what most families have in common.
const LLAMA: Description = Description {
    family: Family::Llama,
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    qk_norm: QkNorm::None,
    rule: Rule::Dense,
    chooses_norm: false,
    attention_bias: AttentionBias::Switched { absent: false },
    window: Window::Never,
    sinks: false,
    expert_bias: false,
    clamped: false,
    interleaved: false,
    extras: PLAIN,
    rotated: 1.0,
    block: "mlp",
    router: "gate",
    expert: PROJECTIONS,
    intermediate: "intermediate_size",
    head: None,
    key_heads: None,
    theta: 1e4,
    epsilon: 1e-6,
    positions: 2048,
};

/// What a family has otherwise than Llama; defaults are those of transformers' configuration classes.
pub static FAMILIES: [Description; 10] = [
    Description {
        family: Family::MiniMaxM2,
        model_type: "minimax_m2",
        architecture: "MiniMaxM2ForCausalLM",
        qk_norm: QkNorm::Whole,
        rule: Rule::Sigmoid,
        attention_bias: AttentionBias::None,
        block: "block_sparse_moe",
        expert: MIXTRAL_NAMES,
        head: Some(128),
        theta: 5e6,
        positions: 196_608,
        ..LLAMA
    },
    Description {
        family: Family::Qwen3Moe,
        model_type: "qwen3_moe",
        architecture: "Qwen3MoeForCausalLM",
        qk_norm: QkNorm::PerHead,
        rule: Rule::Softmax { normalised: false },
        chooses_norm: true,
        window: Window::Switched,
        intermediate: "moe_intermediate_size",
        positions: 32_768,
        ..LLAMA
    },
    Description {
        family: Family::Olmoe,
        model_type: "olmoe",
        architecture: "OlmoeForCausalLM",
        qk_norm: QkNorm::Whole,
        rule: Rule::Softmax { normalised: false },
        chooses_norm: true,
        window: Window::Refused,
        epsilon: 1e-5,
        positions: 4096,
        ..LLAMA
    },
    Description {
        family: Family::Mixtral,
        model_type: "mixtral",
        architecture: "MixtralForCausalLM",
        rule: Rule::Softmax { normalised: true },
        attention_bias: AttentionBias::None,
        window: Window::Always { absent: None },
        block: "block_sparse_moe",
        expert: MIXTRAL_NAMES,
        theta: 1e6,
        epsilon: 1e-5,
        positions: 131_072,
        ..LLAMA
    },
    LLAMA,
    Description {
        family: Family::Qwen3,
        model_type: "qwen3",
        architecture: "Qwen3ForCausalLM",
        qk_norm: QkNorm::PerHead,
        window: Window::SwitchedLate,
        head: Some(128),
        positions: 32_768,
        ..LLAMA
    },
    Description {
        family: Family::Mistral,
        model_type: "mistral",
        architecture: "MistralForCausalLM",
        attention_bias: AttentionBias::None,
        window: Window::Always { absent: Some(4096) },
        key_heads: Some(8),
        positions: 131_072,
        ..LLAMA
    },
    Description {
        family: Family::Qwen2,
        model_type: "qwen2",
        architecture: "Qwen2ForCausalLM",
        attention_bias: AttentionBias::Inputs,
        window: Window::SwitchedLate,
        key_heads: Some(32),
        positions: 32_768,
        ..LLAMA
    },
    Description {
        family: Family::GptOss,
        model_type: "gpt_oss",
        architecture: "GptOssForCausalLM",
        // A softmax of the chosen logits alone is one of all logits, normalised over the chosen.
        rule: Rule::Softmax { normalised: true },
        attention_bias: AttentionBias::Switched { absent: true },
        window: Window::Alternating,
        sinks: true,
        expert_bias: true,
        clamped: true,
        interleaved: true,
        router: "router",
        head: Some(64),
        key_heads: Some(8),
        theta: 1.5e5,
        epsilon: 1e-5,
        positions: 131_072,
        ..LLAMA
    },
    Description {
        family: Family::Qwen35Moe,
        model_type: "qwen3_5_moe_text",
        architecture: "Qwen3_5MoeForCausalLM",
        qk_norm: QkNorm::PerHead,
        rule: Rule::Softmax { normalised: true },
        extras: Extras {
            linear: true,
            shared: true,
            centred: true,
        },
        rotated: 0.25,
        intermediate: "moe_intermediate_size",
        head: Some(256),
        key_heads: Some(2),
        positions: 32_768,
        ..LLAMA
    },
];

impl Family {
    pub fn describe(self) -> &'static Description {
        // In the order of the enum.
        &FAMILIES[self as usize]
    }

    pub fn named(model_type: &str) -> Option<Self> {
        FAMILIES
            .iter()
            .find(|d| d.model_type == model_type)
            .map(|d| d.family)
    }

    /// The names of all, for errors.
    pub fn known() -> String {
        FAMILIES.each_ref().map(|d| d.model_type).join(", ")
    }
}

impl Description {
    /// Name of a weight of expert `e`; a dense family has one without a number.
    pub fn expert_name(&self, layer: usize, e: usize, part: usize) -> String {
        let (block, part) = (self.block, self.expert[part]);
        if self.rule == Rule::Dense {
            format!("model.layers.{layer}.{block}.{part}.weight")
        } else {
            format!("model.layers.{layer}.{block}.experts.{e}.{part}.weight")
        }
    }

    /// Name of the router's matrix.
    pub fn router_name(&self, layer: usize) -> String {
        format!("model.layers.{layer}.{}.{}.weight", self.block, self.router)
    }

    /// Name of the selection bias, which no gradient trains.
    pub fn bias_name(&self, layer: usize) -> String {
        format!(
            "model.layers.{layer}.{}.e_score_correction_bias",
            self.block
        )
    }
}
