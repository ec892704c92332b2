//! Writing a GGUF file that llama.cpp runs, one tensor in memory at a time.

use std::io::{self, Write};
use std::path::Path;

use moevolve_kernels::stored::{Format, encode};

use super::header::DEFAULT_ALIGNMENT;
use super::names::{Naming, Place, ROPE_FREQS, interleave};
use super::value::Kind;
use super::{export, vocabulary};
use crate::checkpoint::write_atomically_with;
use crate::config::Config;
use crate::error::{Error, Result};

/// A value of the metadata that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    U32(u32),
    F32(f32),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

impl Entry {
    /// Type and value as they lie in a file.
    fn put(&self, out: &mut Vec<u8>) {
        let kind = |kind: Kind, out: &mut Vec<u8>| out.extend((kind as u32).to_le_bytes());
        let list = |of: Kind, count: usize, out: &mut Vec<u8>| {
            kind(Kind::Array, out);
            kind(of, out);
            out.extend((count as u64).to_le_bytes());
        };
        match self {
            Self::U32(n) => {
                kind(Kind::U32, out);
                out.extend(n.to_le_bytes());
            }
            Self::F32(x) => {
                kind(Kind::F32, out);
                out.extend(x.to_le_bytes());
            }
            Self::Bool(flag) => {
                kind(Kind::Bool, out);
                out.push(u8::from(*flag));
            }
            Self::String(text) => {
                kind(Kind::String, out);
                put_text(text, out);
            }
            Self::Strings(texts) => {
                list(Kind::String, texts.len(), out);
                texts.iter().for_each(|text| put_text(text, out));
            }
            Self::I32s(numbers) => {
                list(Kind::I32, numbers.len(), out);
                numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
            }
            Self::F32s(numbers) => {
                list(Kind::F32, numbers.len(), out);
                numbers.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The format that a file's matrices are asked to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    F32,
    F16,
    Q8_0,
    Q4_0,
    Q4K,
}

impl Target {
    /// By its name: f32, f16, q8_0, q4_0 or q4_k.
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "f32" => Self::F32,
            "f16" => Self::F16,
            "q8_0" => Self::Q8_0,
            "q4_0" => Self::Q4_0,
            "q4_k" => Self::Q4K,
            other => {
                let reason = format!("format {other:?} is unknown: f32, f16, q8_0, q4_0 or q4_k");
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
        }
    }

    /// The format of one tensor. Vectors and routers are f32, as llama.cpp expects them, and a head below 8 bits costs
    /// more than it saves. A width that blocks do not divide falls back as in llama.cpp: Q4_K to Q5_0, others to F16.
    fn format(self, name: &str, shape: &[usize], tied: bool) -> Format {
        let head = name == "output.weight" || tied && name == "token_embd.weight";
        let wanted = match self {
            _ if shape.len() < 2 || name.ends_with("ffn_gate_inp.weight") => Format::F32,
            Self::F32 => Format::F32,
            Self::F16 => Format::F16,
            Self::Q4_0 | Self::Q4K if head => Format::Q8_0,
            Self::Q8_0 => Format::Q8_0,
            Self::Q4_0 => Format::Q4_0,
            Self::Q4K => Format::Q4K,
        };
        let width = shape.last().copied().unwrap_or(1);
        let fits = |format: &Format| width.is_multiple_of(format.block_len());
        let narrower = (wanted == Format::Q4K).then_some(Format::Q5_0);
        [Some(wanted), narrower]
            .into_iter()
            .flatten()
            .find(fits)
            .unwrap_or(Format::F16)
    }
}

/// The texts beside the weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'a> {
    /// `tokenizer.json`.
    pub tokenizer: Option<&'a str>,
    /// `tokenizer_config.json`.
    pub settings: Option<&'a str>,
    /// A chat template in a file of its own.
    pub template: Option<&'a str>,
}

/// One tensor of the file and the released tensors in it, one after another.
struct Job {
    name: String,
    shape: Vec<usize>,
    format: Format,
    interleaved: usize,
    sources: Vec<String>,
}

impl Job {
    fn bytes(&self) -> usize {
        let width = self.shape.last().copied().unwrap_or(1);
        self.shape.iter().product::<usize>() / width.max(1) * self.format.row_bytes(width)
    }
}

/// Writes a file, whole or not at all.
///
/// `tensors` are released names and shapes (a matrix as (out, inp)), all that the family has; `values` gives the numbers
/// of one of them, row-major. What llama.cpp has no place for is an error before anything is written.
pub fn write(
    path: &Path,
    config: &Config,
    texts: Texts<'_>,
    target: Target,
    tensors: &[(String, Vec<usize>)],
    values: &mut dyn FnMut(&str) -> Result<Vec<f32>>,
) -> Result<()> {
    let refuse = |reason: String| Error::file(path, format!("cannot be written: {reason}"));
    let fields = export::fields(config).map_err(refuse)?;
    let mut metadata = export::entries(&fields, target).map_err(refuse)?;
    if let Some(tokenizer) = texts.tokenizer {
        let (settings, template) = (texts.settings, texts.template);
        let vocabulary = config.vocabulary;
        let text = vocabulary::entries(tokenizer, settings, template, vocabulary, &config.eos);
        metadata.extend(text.map_err(|reason| refuse(format!("its tokenizer: {reason}")))?);
    } else {
        let none = Entry::String("no_vocab".to_owned());
        metadata.push(("tokenizer.ggml.model".to_owned(), none));
    }
    let jobs = jobs(&Naming::of(&fields), config.tied, target, tensors).map_err(refuse)?;
    let divisors = export::divisors(&fields);
    let mut header = header(&metadata, &jobs, divisors.as_deref());
    pad(&mut header);
    write_atomically_with(path, |file| {
        let mut file = io::BufWriter::with_capacity(1 << 20, file);
        file.write_all(&header)?;
        if let Some(divisors) = &divisors {
            let bytes: Vec<u8> = divisors.iter().flat_map(|x| x.to_le_bytes()).collect();
            put_padded(&mut file, &[bytes])?;
        }
        for job in &jobs {
            let parts = job.sources.iter().map(|source| {
                values(source)
                    .and_then(|values| encoded(job, source, &values, path))
                    .map_err(io::Error::other)
            });
            let mut length = 0;
            for part in parts {
                let part = part?;
                length += part.len();
                file.write_all(&part)?;
            }
            file.write_all(&vec![
                0;
                length.next_multiple_of(DEFAULT_ALIGNMENT) - length
            ])?;
        }
        file.flush()
    })
}

fn put_padded(file: &mut impl Write, parts: &[Vec<u8>]) -> io::Result<()> {
    let length: usize = parts.iter().map(Vec::len).sum();
    for part in parts {
        file.write_all(part)?;
    }
    file.write_all(&vec![
        0;
        length.next_multiple_of(DEFAULT_ALIGNMENT) - length
    ])
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
}

/// The numbers of one released tensor in the job's format.
fn encoded(job: &Job, source: &str, values: &[f32], path: &Path) -> Result<Vec<u8>> {
    let wrong = |reason: String| Error::Tensor {
        file: path.display().to_string(),
        name: source.to_owned(),
        reason,
    };
    let expected = job.shape.iter().product::<usize>() / job.sources.len();
    if values.len() != expected {
        return Err(wrong(format!(
            "has {} numbers, expected {expected}",
            values.len()
        )));
    }
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        return Err(wrong(format!("holds {} at flat index {at}", values[at])));
    }
    let Some(bytes) = encode(job.format, values) else {
        return Err(wrong(format!("cannot be written as {}", job.format.name())));
    };
    if job.interleaved > 0 {
        return interleave(&bytes, job.shape[0], job.interleaved);
    }
    Ok(bytes)
}

fn jobs(
    naming: &Naming,
    tied: bool,
    target: Target,
    tensors: &[(String, Vec<usize>)],
) -> std::result::Result<Vec<Job>, String> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (released, shape) in tensors {
        if shape.is_empty() || shape.contains(&0) {
            return Err(format!("{released} is empty"));
        }
        let Some(Place {
            name,
            expert,
            interleaved,
        }) = naming.place(released)
        else {
            return Err(format!(
                "{released} has no place in a {}",
                naming.model_type
            ));
        };
        let at = *places.entry(name.clone()).or_insert(jobs.len());
        if at == jobs.len() {
            let mut whole = shape.clone();
            if expert.is_some() {
                whole.insert(0, naming.experts);
            }
            jobs.push(Job {
                format: target.format(&name, &whole, tied),
                name,
                shape: whole,
                interleaved,
                sources: Vec::new(),
            });
        }
        let job = &mut jobs[at];
        let one = expert.map_or(&job.shape[..], |_| &job.shape[1..]);
        if one != shape || expert.is_some_and(|e| e != job.sources.len()) {
            return Err(format!("{released} does not follow on its neighbours"));
        }
        job.sources.push(released.clone());
    }
    if let Some(job) = jobs
        .iter()
        .find(|job| job.shape.len() == 3 && job.sources.len() != job.shape[0])
    {
        return Err(format!("{} lacks experts", job.name));
    }
    // Two of llama.cpp's architectures have no tied heads: the embedding is written twice.
    let needs_head = matches!(naming.model_type.as_str(), "minimax_m2" | "olmoe");
    if needs_head && !places.contains_key("output.weight") {
        let embedding = jobs.iter().find(|job| job.name == "token_embd.weight");
        let Some(embedding) = embedding else {
            return Err("there is no embedding".to_owned());
        };
        let head = Job {
            name: "output.weight".to_owned(),
            shape: embedding.shape.clone(),
            format: target.format("output.weight", &embedding.shape, tied),
            interleaved: 0,
            sources: embedding.sources.clone(),
        };
        jobs.push(head);
    }
    Ok(jobs)
}

fn header(metadata: &[(String, Entry)], jobs: &[Job], divisors: Option<&[f32]>) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    let tensors = jobs.len() + usize::from(divisors.is_some());
    out.extend((tensors as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, entry) in metadata {
        put_text(key, &mut out);
        entry.put(&mut out);
    }
    let mut offset = 0usize;
    let mut tensor = |name: &str, shape: &[usize], format: Format, bytes: usize| {
        put_text(name, &mut out);
        out.extend((shape.len() as u32).to_le_bytes());
        for &dim in shape.iter().rev() {
            out.extend((dim as u64).to_le_bytes());
        }
        out.extend(format.to_ggml().unwrap_or_default().to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset = (offset + bytes).next_multiple_of(DEFAULT_ALIGNMENT);
    };
    if let Some(divisors) = divisors {
        tensor(
            ROPE_FREQS,
            &[divisors.len()],
            Format::F32,
            4 * divisors.len(),
        );
    }
    for job in jobs {
        tensor(&job.name, &job.shape, job.format, job.bytes());
    }
    out
}
