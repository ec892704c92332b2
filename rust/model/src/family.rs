//! What tells one family of decoders from another: one description each, one decoder for all.

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

/// When attention sees a window of the newest keys only, which this decoder does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    Never,
    /// `sliding_window` counts if `use_sliding_window` says so.
    Switched,
    /// `sliding_window` counts wherever it is set.
    Always,
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
    /// Whether `attention_bias` adds biases to the four projections of attention.
    pub attention_bias: bool,
    pub window: Window,
    /// Name of the block after attention.
    pub block: &'static str,
    /// Names of an expert's gate, up and down matrices.
    pub expert: [&'static str; 3],
    /// Key of an expert's width.
    pub intermediate: &'static str,
    /// `head_dim` where the file has none; else hidden_size / num_attention_heads.
    pub head: Option<usize>,
    pub theta: f64,
    pub epsilon: f64,
    pub positions: usize,
}

const MIXTRAL_NAMES: [&str; 3] = ["w1", "w3", "w2"];
const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// Defaults are those of transformers' configuration classes.
pub static FAMILIES: [Description; 6] = [
    Description {
        family: Family::MiniMaxM2,
        model_type: "minimax_m2",
        architecture: "MiniMaxM2ForCausalLM",
        qk_norm: QkNorm::Whole,
        rule: Rule::Sigmoid,
        chooses_norm: false,
        attention_bias: false,
        window: Window::Never,
        block: "block_sparse_moe",
        expert: MIXTRAL_NAMES,
        intermediate: "intermediate_size",
        head: Some(128),
        theta: 5e6,
        epsilon: 1e-6,
        positions: 196_608,
    },
    Description {
        family: Family::Qwen3Moe,
        model_type: "qwen3_moe",
        architecture: "Qwen3MoeForCausalLM",
        qk_norm: QkNorm::PerHead,
        rule: Rule::Softmax { normalised: false },
        chooses_norm: true,
        attention_bias: true,
        window: Window::Switched,
        block: "mlp",
        expert: PROJECTIONS,
        intermediate: "moe_intermediate_size",
        head: None,
        theta: 1e4,
        epsilon: 1e-6,
        positions: 32_768,
    },
    Description {
        family: Family::Olmoe,
        model_type: "olmoe",
        architecture: "OlmoeForCausalLM",
        qk_norm: QkNorm::Whole,
        rule: Rule::Softmax { normalised: false },
        chooses_norm: true,
        attention_bias: true,
        window: Window::Always,
        block: "mlp",
        expert: PROJECTIONS,
        intermediate: "intermediate_size",
        head: None,
        theta: 1e4,
        epsilon: 1e-5,
        positions: 4096,
    },
    Description {
        family: Family::Mixtral,
        model_type: "mixtral",
        architecture: "MixtralForCausalLM",
        qk_norm: QkNorm::None,
        rule: Rule::Softmax { normalised: true },
        chooses_norm: false,
        attention_bias: false,
        window: Window::Always,
        block: "block_sparse_moe",
        expert: MIXTRAL_NAMES,
        intermediate: "intermediate_size",
        head: None,
        theta: 1e6,
        epsilon: 1e-5,
        positions: 131_072,
    },
    Description {
        family: Family::Llama,
        model_type: "llama",
        architecture: "LlamaForCausalLM",
        qk_norm: QkNorm::None,
        rule: Rule::Dense,
        chooses_norm: false,
        attention_bias: true,
        window: Window::Never,
        block: "mlp",
        expert: PROJECTIONS,
        intermediate: "intermediate_size",
        head: None,
        theta: 1e4,
        epsilon: 1e-6,
        positions: 2048,
    },
    Description {
        family: Family::Qwen3,
        model_type: "qwen3",
        architecture: "Qwen3ForCausalLM",
        qk_norm: QkNorm::PerHead,
        rule: Rule::Dense,
        chooses_norm: false,
        attention_bias: true,
        window: Window::Switched,
        block: "mlp",
        expert: PROJECTIONS,
        intermediate: "intermediate_size",
        head: Some(128),
        theta: 1e4,
        epsilon: 1e-6,
        positions: 32_768,
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
        format!("model.layers.{layer}.{}.gate.weight", self.block)
    }

    /// Name of the selection bias, which no gradient trains.
    pub fn bias_name(&self, layer: usize) -> String {
        format!(
            "model.layers.{layer}.{}.e_score_correction_bias",
            self.block
        )
    }
}
