//! Names of tensors: as GGUF files have them, and as released Hugging Face checkpoints do.
//!
//! Two things differ beside the names. GGUF stacks the experts of a layer into one tensor, fastest dimension last in
//! [`TensorInfo::shape`]: (experts, out, inp). And files of the architecture `llama` hold the rows of the query and key
//! projections in another order, see [`released_row`].

use std::ops::Range;

use moevolve_checkpoint::gguf::{Gguf, TensorInfo};
use moevolve_checkpoint::{Error, Result};
use moevolve_kernels::stored::Format;
use serde_json::{Map, Value};

/// Factors of the rotation's frequencies; part of the configuration, not of the weights.
pub const ROPE_FREQS: &str = "rope_freqs.weight";

/// What the names of a checkpoint depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    pub model_type: String,
    pub heads: usize,
    pub key_heads: usize,
    /// Experts of a layer; 0 where the layers are dense.
    pub experts: usize,
}

/// Where a tensor of a released checkpoint lies in a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// The tensor of the GGUF file.
    pub name: String,
    /// Which slice of a stack of experts; None for the whole tensor.
    pub expert: Option<usize>,
    /// Heads whose rows are interleaved there, 0 where the rows are in the same order.
    pub interleaved: usize,
}

/// A tensor of a released checkpoint, as it lies in a file.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Released name.
    pub name: String,
    pub shape: Vec<usize>,
    pub format: Format,
    /// Which of the model's files has it.
    pub part: usize,
    /// Bytes of that file.
    pub range: Range<usize>,
    /// As [`GgufTensor::interleaved`]: pass the bytes through [`separate`].
    pub interleaved: usize,
}

/// Block-wise names, GGUF and released; the feed-forward block's come by family.
const LAYER: [(&str, &str); 15] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    (LATE_NORM, "post_attention_layernorm.weight"),
    (SINKS, "self_attn.sinks"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("attn_q.bias", "self_attn.q_proj.bias"),
    ("attn_k.bias", "self_attn.k_proj.bias"),
    ("attn_v.bias", "self_attn.v_proj.bias"),
    ("attn_output.bias", "self_attn.o_proj.bias"),
    ("attn_q_norm.weight", "self_attn.q_norm.weight"),
    ("attn_k_norm.weight", "self_attn.k_norm.weight"),
    (
        "exp_probs_b.bias",
        "block_sparse_moe.e_score_correction_bias",
    ),
];

/// What gpt-oss's files have: the norm before the experts under another name, and the sinks.
const LATE_NORM: &str = "post_attention_norm.weight";
const SINKS: &str = "attn_sinks.weight";

const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// The three matrices of a feed-forward block, by GGUF's word for them.
const PARTS: [&str; 3] = ["gate", "up", "down"];

impl Naming {
    /// From the fields of `config.json`.
    pub fn of(fields: &Map<String, Value>) -> Self {
        let size = |key: &str| fields.get(key).and_then(Value::as_u64);
        let heads = size("num_attention_heads").unwrap_or(0);
        let experts = size("num_local_experts").or_else(|| size("num_experts"));
        let model_type = fields.get("model_type").and_then(Value::as_str);
        let dense = matches!(model_type, Some("llama" | "mistral" | "qwen2" | "qwen3"));
        Self {
            model_type: model_type.unwrap_or_default().to_owned(),
            heads: heads as usize,
            key_heads: size("num_key_value_heads").unwrap_or(heads) as usize,
            experts: experts.filter(|_| !dense).unwrap_or(0) as usize,
        }
    }

    /// Block-wise names of this family.
    fn layer(&self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let late = self.is_late();
        LAYER.iter().filter(move |(gguf, _)| match *gguf {
            "ffn_norm.weight" => !late,
            LATE_NORM | SINKS => late,
            _ => true,
        })
    }

    fn is_late(&self) -> bool {
        self.model_type == "gpt_oss"
    }

    /// The router's name in the feed-forward block.
    fn router(&self) -> &'static str {
        if self.is_late() { "router" } else { "gate" }
    }

    /// The room of the feed-forward block, and its three matrices in the order of [`PARTS`].
    fn block(&self) -> (&'static str, [&'static str; 3]) {
        match self.model_type.as_str() {
            "minimax_m2" | "mixtral" => ("block_sparse_moe", ["w1", "w3", "w2"]),
            _ => ("mlp", ["gate_proj", "up_proj", "down_proj"]),
        }
    }

    /// Rows of q and k of the architecture `llama` are interleaved.
    fn interleaved(&self, gguf: &str) -> usize {
        match (self.model_type.as_str(), gguf) {
            ("llama" | "mixtral" | "mistral", "attn_q.weight" | "attn_q.bias") => self.heads,
            ("llama" | "mixtral" | "mistral", "attn_k.weight" | "attn_k.bias") => self.key_heads,
            _ => 0,
        }
    }

    /// Where a released tensor goes, or None if the family has no such tensor.
    pub fn gguf(&self, released: &str) -> Option<GgufTensor> {
        let whole = |name: String| GgufTensor {
            name,
            expert: None,
            interleaved: 0,
        };
        if let Some((gguf, _)) = WHOLE.iter().find(|(_, name)| *name == released) {
            return Some(whole((*gguf).to_owned()));
        }
        let (layer, rest) = number(released.strip_prefix("model.layers.")?)?;
        if let Some((gguf, _)) = self.layer().find(|(_, name)| *name == rest) {
            return Some(GgufTensor {
                interleaved: self.interleaved(gguf),
                ..whole(format!("blk.{layer}.{gguf}"))
            });
        }
        let (room, matrices) = self.block();
        let rest = rest.strip_prefix(room)?.strip_prefix('.')?;
        if self.experts == 0 {
            let part = matrices
                .iter()
                .position(|m| rest == format!("{m}.weight"))?;
            return Some(whole(format!("blk.{layer}.ffn_{}.weight", PARTS[part])));
        }
        if let Some(kind @ ("weight" | "bias")) = rest
            .strip_prefix(self.router())
            .and_then(|kind| kind.strip_prefix('.'))
            && (kind == "weight" || self.is_late())
        {
            return Some(whole(format!("blk.{layer}.ffn_gate_inp.{kind}")));
        }
        let (expert, rest) = number(rest.strip_prefix("experts.")?)?;
        let part = matrices
            .iter()
            .position(|m| rest == format!("{m}.weight"))?;
        (expert < self.experts).then(|| GgufTensor {
            expert: Some(expert),
            ..whole(format!("blk.{layer}.ffn_{}_exps.weight", PARTS[part]))
        })
    }

    /// The released tensors that a GGUF tensor holds: one, or one an expert.
    fn released(&self, gguf: &str) -> Option<Released> {
        let one = |name: String| Released::One(name, 0);
        if let Some((_, name)) = WHOLE.iter().find(|(name, _)| *name == gguf) {
            return Some(one((*name).to_owned()));
        }
        let (layer, rest) = number(gguf.strip_prefix("blk.")?)?;
        if let Some((_, name)) = self.layer().find(|(name, _)| *name == rest) {
            let name = format!("model.layers.{layer}.{name}");
            return Some(Released::One(name, self.interleaved(rest)));
        }
        let (room, matrices) = self.block();
        if let Some(kind @ ("weight" | "bias")) = rest.strip_prefix("ffn_gate_inp.")
            && self.experts > 0
            && (kind == "weight" || self.is_late())
        {
            let router = self.router();
            let name = format!("model.layers.{layer}.{room}.{router}.{kind}");
            return Some(one(name));
        }
        let (word, after) = rest.strip_prefix("ffn_")?.split_once(['.', '_'])?;
        let matrix = matrices[PARTS.iter().position(|part| *part == word)?];
        match after {
            "weight" if self.experts == 0 => {
                Some(one(format!("model.layers.{layer}.{room}.{matrix}.weight")))
            }
            "exps.weight" | "exps.bias"
                if self.experts > 0 && (self.is_late() || after != "exps.bias") =>
            {
                let stem = format!("model.layers.{layer}.{room}.experts");
                let kind = if after == "exps.bias" {
                    "bias"
                } else {
                    "weight"
                };
                Some(Released::Experts(stem, format!("{matrix}.{kind}")))
            }
            // Files of before experts were stacked: blk.N.ffn_gate.E.weight.
            _ => {
                let (e, rest) = number(after)?;
                let name = format!("model.layers.{layer}.{room}.experts.{e}.{matrix}.weight");
                (rest == "weight" && e < self.experts).then(|| one(name))
            }
        }
    }
}

enum Released {
    /// With the number of interleaved heads.
    One(String, usize),
    /// Before and after the expert's number.
    Experts(String, String),
}

/// A number and what follows the dot behind it.
fn number(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_once('.')?;
    let plain = digits.len() <= 7 && digits.bytes().all(|b| b.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| plain)?, rest))
}

/// All tensors of a file under released names; what no released checkpoint of the family has is an error.
pub fn pieces(gguf: &Gguf<'_>, naming: &Naming) -> Result<Vec<Piece>> {
    let mut pieces = Vec::with_capacity(gguf.tensors.len());
    for tensor in &gguf.tensors {
        if tensor.name == ROPE_FREQS {
            continue; // Read with the configuration.
        }
        match naming.released(tensor.name) {
            Some(Released::One(name, interleaved)) => {
                pieces.push(one(gguf, tensor, name, interleaved)?);
            }
            Some(Released::Experts(stem, part)) => {
                let name = |e| format!("{stem}.{e}.{part}");
                stack(gguf, tensor, naming.experts, name, &mut pieces)?;
            }
            None => {
                let reason = format!("is not part of a {}", naming.model_type);
                return Err(gguf.torn(tensor.name, reason));
            }
        }
    }
    Ok(pieces)
}

fn one(
    gguf: &Gguf<'_>,
    tensor: &TensorInfo<'_>,
    name: String,
    interleaved: usize,
) -> Result<Piece> {
    let shape = tensor.shape();
    if interleaved > 0 && !shape[0].is_multiple_of(2 * interleaved) {
        let reason = format!("has {} rows for {interleaved} heads", shape[0]);
        return Err(gguf.torn(tensor.name, reason));
    }
    Ok(Piece {
        name,
        shape,
        format: tensor.format,
        part: tensor.part,
        range: tensor.range.clone(),
        interleaved,
    })
}

fn stack(
    gguf: &Gguf<'_>,
    tensor: &TensorInfo<'_>,
    expected: usize,
    name: impl Fn(usize) -> String,
    pieces: &mut Vec<Piece>,
) -> Result<()> {
    let shape = tensor.shape();
    let (experts, each) = match shape[..] {
        [experts, out, inp] if !tensor.name.ends_with(".bias") => (experts, vec![out, inp]),
        [experts, length] if tensor.name.ends_with(".bias") => (experts, vec![length]),
        _ => return Err(gguf.torn(tensor.name, format!("has shape {shape:?}, not a stack"))),
    };
    if experts != expected {
        let reason = format!("holds {experts} experts, expected {expected}");
        return Err(gguf.torn(tensor.name, reason));
    }
    let length = tensor.range.len() / experts;
    for e in 0..experts {
        let start = tensor.range.start + e * length;
        pieces.push(Piece {
            name: name(e),
            shape: each.clone(),
            format: tensor.format,
            part: tensor.part,
            range: start..start + length,
            interleaved: 0,
        });
    }
    Ok(())
}

/// The released row that a row of a `llama` file is, in heads of `head` rows: row 2i + j of a head is row i + j·half.
///
/// Released checkpoints rotate dimension i with i + half, llama.cpp's `llama` rotates 2i with 2i + 1.
pub fn released_row(row: usize, head: usize) -> usize {
    let within = row % head;
    row - within + within / 2 + within % 2 * (head / 2)
}

/// Rows of a `llama` file in the released order. A row may be any number of bytes, so quantised rows are permuted exactly.
pub fn separate(bytes: &[u8], rows: usize, heads: usize) -> Result<Vec<u8>> {
    let fits =
        heads > 0 && rows > 0 && rows.is_multiple_of(2 * heads) && bytes.len().is_multiple_of(rows);
    if !fits {
        let reason = format!("{} bytes are not {rows} rows of {heads} heads", bytes.len());
        return Err(Error::Request(reason));
    }
    let row_bytes = bytes.len() / rows;
    let mut out = vec![0; bytes.len()];
    for (row, bytes) in bytes.chunks_exact(row_bytes.max(1)).enumerate() {
        let at = released_row(row, rows / heads) * row_bytes;
        out[at..at + row_bytes].copy_from_slice(bytes);
    }
    Ok(out)
}
