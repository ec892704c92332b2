//! What a model weighs, from its configuration alone: no tensor is read.

mod shape;

use std::path::Path;

use moevolve_kernels::stored::{FP8_BLOCK, Format};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::checkpoint::gguf;
use crate::config::{Config, text_config, within_wrapper};
use moevolve_checkpoint::files::read_object;
use moevolve_checkpoint::folder::advice;
use moevolve_checkpoint::gguf::Parts;
use moevolve_checkpoint::{Error, Result};
use shape::Shape;

/// The formats that a plan weighs, by the names it gives them.
const FORMATS: [(&str, Format); 11] = [
    ("f32", Format::F32),
    ("bf16", Format::Bf16),
    ("f16", Format::F16),
    ("fp8", Format::Fp8),
    ("q8_0", Format::Q8_0),
    ("q6_k", Format::Q6K),
    ("q5_k", Format::Q5K),
    ("q5_0", Format::Q5_0),
    ("q4_k", Format::Q4K),
    ("q4_1", Format::Q4_1),
    ("q4_0", Format::Q4_0),
];

/// Bytes of a matrix (out, inp); a width that the blocks do not divide takes the format that llama.cpp falls back to.
fn matrix_bytes(format: Format, out: u128, inp: u128) -> u128 {
    let blocks = |length: usize, bytes: usize| {
        let length = length as u128;
        inp.is_multiple_of(length)
            .then(|| out * (inp / length) * bytes as u128)
    };
    if format == Format::Fp8 {
        let square = FP8_BLOCK as u128;
        return out * inp + 4 * out.div_ceil(square) * inp.div_ceil(square);
    }
    let coarser = match format {
        Format::Q4K => blocks(32, Format::Q5_0.block_bytes()),
        Format::Q5K => blocks(32, Format::Q5_1.block_bytes()),
        Format::Q6K => blocks(32, Format::Q8_0.block_bytes()),
        _ => None,
    };
    blocks(format.block_len(), format.block_bytes())
        .or(coarser)
        .unwrap_or(2 * out * inp)
}

/// What [`of`] finds; all counts are of single numbers, all sizes in bytes.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Plan {
    pub model_type: String,
    /// Layers, width of the residual stream, attention and key heads, dimensions of a head.
    pub layers: u64,
    pub hidden: u64,
    pub heads: u64,
    pub key_heads: u64,
    pub head: u64,
    pub vocabulary: u64,
    /// 1 where the model is dense.
    pub experts: u64,
    /// Experts per token.
    pub chosen: u64,
    /// Longest sequence, where the configuration says one.
    pub positions: Option<u64>,
    pub parameters: u64,
    /// Parameters that a token is multiplied with, the output head included.
    pub active: u64,
    /// The same without embeddings and head.
    pub active_without_vocabulary: u64,
    /// Keys and values of one token over all layers, as bf16.
    pub kv_bytes_per_token: u64,
    pub parts: Vec<Part>,
    /// All weights in one format; norms, biases and routers count as f32, and beside FP8 the vocabulary
    /// matrices as bf16, as released.
    pub bytes: Map<String, Value>,
    /// What the given file holds, where it is a GGUF: bytes of its tensors.
    pub stored_bytes: Option<u64>,
    /// Why loading refuses this configuration, where it does.
    pub obstacle: Option<String>,
}

impl Plan {
    /// The fields as a JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are JSON")
    }
}

/// One kind of weights, over all layers.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Part {
    pub name: &'static str,
    pub parameters: u64,
    /// Per token.
    pub active: u64,
}

/// Equal matrices (out, inp) of a part, or vectors where `inp` is 0; `active` of `count` are used per token.
struct Group {
    part: &'static str,
    out: u128,
    inp: u128,
    count: u128,
    active: u128,
}

impl Group {
    fn numbers(&self) -> u128 {
        self.out * self.inp.max(1)
    }

    fn is_vocabulary(&self) -> bool {
        matches!(self.part, "embeddings" | "head")
    }

    fn bytes(&self, format: Format) -> u128 {
        let one = match self.part {
            _ if self.inp == 0 => 4 * self.out,
            "router" => 4 * self.numbers(),
            _ if format == Format::Fp8 && self.is_vocabulary() => 2 * self.numbers(),
            _ => matrix_bytes(format, self.out, self.inp),
        };
        one * self.count
    }
}

/// Plans for a checkpoint folder, a `config.json`, or a GGUF file, of which only the headers of it and its parts are read.
pub fn of_path(path: &Path) -> Result<Plan> {
    let file = if path.is_dir() {
        path.join("config.json")
    } else {
        path.to_owned()
    };
    let is_gguf = file
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    if is_gguf {
        return of_gguf(&file);
    }
    match (read_object(&file)?, advice(path)) {
        (Some(map), _) => of(&map, &file.display().to_string()),
        (None, Some(advice)) => Err(Error::file(path, format!("has no config.json: {advice}"))),
        (None, None) => Err(Error::file(&file, "does not exist")),
    }
}

fn of_gguf(path: &Path) -> Result<Plan> {
    let parts = Parts::open(path)?;
    let gguf = parts.parse()?;
    let mut plan = of(&gguf::config_fields(&gguf)?, &gguf.file)?;
    let stored: usize = gguf.tensors.iter().map(|tensor| tensor.range.len()).sum();
    plan.stored_bytes = Some(stored as u64);
    Ok(plan)
}

/// Plans from the fields of `config.json`, also of checkpoints that the engine itself does not run; `file` names it in errors.
pub fn of(config: &Map<String, Value>, file: &str) -> Result<Plan> {
    let inner = text_config(config);
    let named = inner.as_ref().map(|_| within_wrapper(file));
    let file = named.as_deref().unwrap_or(file);
    let shape = Shape::read(inner.as_ref().unwrap_or(config), file)?;
    let groups = groups(&shape);
    let count = |what: &str, total: u128| {
        u64::try_from(total).map_err(|_| Error::File {
            file: file.to_owned(),
            reason: format!("its sizes make {total} {what}"),
        })
    };
    let mut parts: Vec<Part> = Vec::new();
    for group in &groups {
        let parameters = count("parameters", group.numbers() * group.count)?;
        let active = count("parameters", group.numbers() * group.active)?;
        match parts.iter_mut().find(|part| part.name == group.part) {
            Some(part) => {
                part.parameters = part.parameters.saturating_add(parameters);
                part.active = part.active.saturating_add(active);
            }
            None => parts.push(Part {
                name: group.part,
                parameters,
                active,
            }),
        }
    }
    let sum = |keep: &dyn Fn(&Group) -> u128| count("parameters", groups.iter().map(keep).sum());
    let mut bytes = Map::new();
    for (name, format) in FORMATS {
        let total = groups.iter().map(|group| group.bytes(format)).sum();
        bytes.insert(name.to_owned(), count("bytes", total)?.into());
    }
    let kv = 2 * (shape.layers - shape.linear_layers) * shape.key_heads * shape.head * 2;
    let narrow = |n: u128| n as u64; // Each size was read from 31 bits.
    Ok(Plan {
        layers: narrow(shape.layers),
        hidden: narrow(shape.hidden),
        heads: narrow(shape.heads),
        key_heads: narrow(shape.key_heads),
        head: narrow(shape.head),
        vocabulary: narrow(shape.vocabulary),
        experts: narrow(shape.experts),
        chosen: narrow(shape.chosen),
        positions: shape.positions.map(narrow),
        parameters: sum(&|group| group.numbers() * group.count)?,
        active: sum(&|group| group.numbers() * group.active)?,
        active_without_vocabulary: sum(&|group| {
            if group.is_vocabulary() {
                0
            } else {
                group.numbers() * group.active
            }
        })?,
        kv_bytes_per_token: count("bytes", kv)?,
        parts,
        bytes,
        stored_bytes: None,
        obstacle: obstacle(config, file),
        model_type: shape.model_type,
    })
}

/// What loading says of a configuration that it refuses.
fn obstacle(config: &Map<String, Value>, file: &str) -> Option<String> {
    let text = serde_json::to_string(config).expect("a map of JSON values is JSON");
    Config::parse(&text, file).err().map(|e| e.to_string())
}

/// Every tensor of the architecture. An embedding is read, not multiplied: it counts as active only where it is the head too.
fn groups(shape: &Shape) -> Vec<Group> {
    let Shape {
        vocabulary,
        hidden,
        layers,
        ..
    } = *shape;
    let (queries, keys) = (shape.heads * shape.head, shape.key_heads * shape.head);
    let sparse = layers - shape.dense_layers;
    let (linear, keyed) = (shape.linear_layers, layers - shape.linear_layers);
    let same = |part, out, inp, count| Group {
        part,
        out,
        inp,
        count,
        active: count,
    };
    let tied = u128::from(shape.tied);
    let mut groups = vec![
        Group {
            active: tied,
            ..same("embeddings", vocabulary, hidden, 1)
        },
        same("attention", shape.twins * queries, hidden, keyed),
        same("attention", keys, hidden, 2 * keyed),
        same("attention", hidden, queries, keyed),
        same("linear attention", shape.channels, hidden, linear),
        same("linear attention", shape.values, hidden, linear),
        same("linear attention", shape.value_heads, hidden, 2 * linear),
        same("linear attention", hidden, shape.values, linear),
        same("linear attention", shape.channels * shape.taps, 0, linear),
        same("linear attention", shape.value_heads, 0, 2 * linear),
        same("norms", shape.value, 0, linear),
        same("norms", hidden, 0, 2 * layers + 1),
        same("norms", shape.query_norm, 0, keyed),
        same("norms", shape.key_norm, 0, keyed),
    ];
    if shape.attention_bias {
        groups.push(same(
            "attention",
            shape.twins * queries + 2 * keys,
            0,
            keyed,
        ));
        if shape.output_bias {
            groups.push(same("attention", hidden, 0, keyed));
        }
    }
    groups.push(same(
        "mlp",
        shape.dense_inner,
        hidden,
        2 * shape.dense_layers,
    ));
    groups.push(same("mlp", hidden, shape.dense_inner, shape.dense_layers));
    if shape.mlp_bias {
        let width = 2 * shape.dense_inner + hidden;
        groups.push(same("mlp", width, 0, shape.dense_layers));
    }
    for (out, inp, each) in [
        (shape.inner, hidden, 2 * sparse),
        (hidden, shape.inner, sparse),
    ] {
        groups.push(Group {
            active: each * shape.chosen,
            ..same("experts", out, inp, each * shape.experts)
        });
    }
    if shape.shared > 0 {
        groups.push(same("experts", shape.shared, hidden, 2 * sparse));
        groups.push(same("experts", hidden, shape.shared, sparse));
        groups.push(same("router", 1, hidden, sparse));
    }
    groups.push(same("router", shape.experts, hidden, sparse));
    if shape.router_bias {
        groups.push(same("router", shape.experts, 0, sparse));
    }
    if shape.expert_bias {
        groups.push(Group {
            active: sparse * shape.chosen,
            ..same(
                "experts",
                2 * shape.inner + hidden,
                0,
                sparse * shape.experts,
            )
        });
    }
    if shape.sinks {
        groups.push(same("attention", shape.heads, 0, layers));
    }
    groups.push(same("head", vocabulary, hidden, 1 - tied));
    groups.retain(|group| group.count > 0 && group.out > 0);
    groups
}
