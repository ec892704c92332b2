//! A model as a GGUF file that llama.cpp runs.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use moevolve_checkpoint::gguf::{Entry, vocabulary, write_parts};
use moevolve_checkpoint::{Error, Result, TensorSpec, Tokenizer};
use moevolve_kernels::stored::Format;
use moevolve_kernels::worker_pool::WorkerPool;

use super::metadata;
use super::names::{GgufTensor, Naming, ROPE_FREQS, released_row};
use crate::weights::Released;

/// The format that a file's matrices are asked to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4K,
}

impl Target {
    /// By its name: f32, f16, bf16, q8_0, q4_0 or q4_k.
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "f32" => Self::F32,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "q8_0" => Self::Q8_0,
            "q4_0" => Self::Q4_0,
            "q4_k" => Self::Q4K,
            other => {
                let reason =
                    format!("format {other:?} is unknown: f32, f16, bf16, q8_0, q4_0 or q4_k");
                return Err(Error::Request(reason));
            }
        })
    }

    /// llama.cpp's number for a file of this kind (`llama_ftype`).
    pub(super) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4K => 14,
            Self::Bf16 => 32,
        }
    }

    /// One tensor with its format. Vectors and routers are f32, as llama.cpp expects them, and a head below 8 bits costs
    /// more than it saves. A width that blocks do not divide falls back as in llama.cpp: Q4_K to Q5_0, others to F16.
    fn spec(self, name: String, shape: Vec<usize>, tied: bool) -> TensorSpec {
        let head = name == "output.weight" || tied && name == "token_embd.weight";
        let wanted = match self {
            _ if shape.len() < 2 || name.ends_with("ffn_gate_inp.weight") => Format::F32,
            Self::F32 => Format::F32,
            Self::F16 => Format::F16,
            Self::Bf16 => Format::Bf16,
            Self::Q4_0 | Self::Q4K if head => Format::Q8_0,
            Self::Q8_0 => Format::Q8_0,
            Self::Q4_0 => Format::Q4_0,
            Self::Q4K => Format::Q4K,
        };
        let width = shape.last().copied().unwrap_or(1);
        let fits = |format: &Format| width.is_multiple_of(format.block_len());
        let narrower = (wanted == Format::Q4K).then_some(Format::Q5_0);
        let format = [Some(wanted), narrower]
            .into_iter()
            .flatten()
            .find(fits)
            .unwrap_or(Format::F16);
        TensorSpec {
            name,
            shape,
            format,
        }
    }
}

/// One tensor of the file and the released tensors in it, one after another, by their indices.
struct Part {
    spec: TensorSpec,
    /// Heads whose rows are interleaved, 0 where rows have the released order.
    interleaved: usize,
    sources: Vec<usize>,
}

impl Part {
    /// Rows of each source; of a vector its numbers.
    fn height(&self) -> usize {
        match self.spec.shape[..] {
            [length] => length,
            [.., height, _] => height,
            [] => 1,
        }
    }

    /// Appends rows of the file's tensor.
    fn rows(&self, model: &Released<'_>, rows: Range<usize>, out: &mut Vec<f32>) {
        let height = self.height();
        let mut start = rows.start;
        while start < rows.end {
            let (source, first) = (self.sources[start / height], start % height);
            let end = rows.end.min(start - first + height);
            let run = first..first + (end - start);
            match height.checked_div(self.interleaved) {
                None => model.rows(source, run, out),
                Some(head) => run
                    .map(|row| released_row(row, head))
                    .for_each(|row| model.rows(source, row..row + 1, out)),
            }
            start = end;
        }
    }
}

/// Writes a file, or several of at most `most` bytes, whole or not at all, and not if `check` finds something wrong with it. What llama.cpp has no place for is an error before anything is written.
pub fn save(
    path: &Path,
    model: &Released<'_>,
    tokenizer: Option<&Tokenizer>,
    target: Target,
    pool: &WorkerPool,
    most: Option<usize>,
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let refuse = |reason: String| Error::file(path, format!("cannot be written: {reason}"));
    let config = model.config;
    let fields = metadata::fields(config).map_err(refuse)?;
    let mut metadata = metadata::entries(config, &fields, target).map_err(refuse)?;
    if let Some(tokenizer) = tokenizer {
        let frame = tokenizer.frame()?;
        let text = vocabulary::entries(tokenizer.texts(), &frame, config.vocabulary, &config.eos);
        metadata.extend(text.map_err(|reason| refuse(format!("its tokenizer: {reason}")))?);
    } else {
        let none = Entry::String("no_vocab".to_owned());
        metadata.push(("tokenizer.ggml.model".to_owned(), none));
    }
    let parts = parts(&Naming::of(&fields), config.tied, target, model).map_err(refuse)?;
    // Before the model's own tensors.
    let divisors = metadata::divisors(config);
    let extra = divisors.iter().map(|divisors| TensorSpec {
        name: ROPE_FREQS.to_owned(),
        shape: vec![divisors.len()],
        format: Format::F32,
    });
    let specs: Vec<_> = extra
        .chain(parts.iter().map(|part| part.spec.clone()))
        .collect();
    let first = specs.len() - parts.len();
    let mut rows = |index: usize, rows: Range<usize>, out: &mut Vec<f32>| {
        match (index.checked_sub(first), &divisors) {
            (Some(part), _) => parts[part].rows(model, rows, out),
            (None, Some(divisors)) => out.extend(&divisors[rows]),
            (None, None) => {}
        }
        Ok(())
    };
    let check = |file: &Path| check(file).map_err(|e| refuse(e.to_string()));
    let most = most.unwrap_or(usize::MAX);
    write_parts(path, pool, &metadata, &specs, &mut rows, most, check)
}

fn parts(
    naming: &Naming,
    tied: bool,
    target: Target,
    model: &Released<'_>,
) -> std::result::Result<Vec<Part>, String> {
    let mut parts: Vec<Part> = Vec::new();
    let mut indices = HashMap::new();
    for (source, (released, shape)) in model.tensors().enumerate() {
        if shape.is_empty() || shape.contains(&0) {
            return Err(format!("{released} is empty"));
        }
        let Some(GgufTensor {
            name,
            expert,
            interleaved,
        }) = naming.gguf(released)
        else {
            let model_type = &naming.model_type;
            return Err(format!("{released} has no place in a {model_type}"));
        };
        let index = *indices.entry(name.clone()).or_insert(parts.len());
        if index == parts.len() {
            let mut whole = shape.clone();
            if expert.is_some() {
                whole.insert(0, naming.experts);
            }
            parts.push(Part {
                spec: target.spec(name, whole, tied),
                interleaved,
                sources: Vec::new(),
            });
        }
        let part = &mut parts[index];
        let one = expert.map_or(&part.spec.shape[..], |_| &part.spec.shape[1..]);
        if one != shape || expert.is_some_and(|e| e != part.sources.len()) {
            return Err(format!("{released} does not follow on its neighbours"));
        }
        part.sources.push(source);
    }
    let lacking =
        |part: &&Part| part.spec.shape.len() == 3 && part.sources.len() != part.spec.shape[0];
    if let Some(part) = parts.iter().find(lacking) {
        return Err(format!("{} lacks experts", part.spec.name));
    }
    // Two of llama.cpp's architectures have no tied heads: the embedding is written twice.
    let needs_head = matches!(naming.model_type.as_str(), "minimax_m2" | "olmoe");
    if needs_head && !indices.contains_key("output.weight") {
        let embedding = parts
            .iter()
            .find(|part| part.spec.name == "token_embd.weight");
        let Some(embedding) = embedding else {
            return Err("there is no embedding".to_owned());
        };
        let shape = embedding.spec.shape.clone();
        let head = Part {
            spec: target.spec("output.weight".to_owned(), shape, tied),
            interleaved: 0,
            sources: embedding.sources.clone(),
        };
        parts.push(head);
    }
    Ok(parts)
}
