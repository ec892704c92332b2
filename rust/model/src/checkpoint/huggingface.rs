//! A checkpoint folder in the Hugging Face layout.

use std::fs;
use std::path::{Path, PathBuf};

use moevolve_checkpoint::files::{is_there, read_json, read_object, write_atomically};
use moevolve_checkpoint::folder::advice;
use moevolve_checkpoint::huggingface::{INDEX, WEIGHTS, join_scales, weight_files};
use moevolve_checkpoint::{Error, Result, TensorView, Tensors, Tokenizer, safetensors};
use moevolve_kernels::stored::Format;
use serde_json::{Map, Value, json};

use super::{Source, interleaved};
use crate::config::{self, Config};
use crate::weights::Released;

/// Reads a folder, its tensors mapped under released names.
pub(super) fn read(folder: &Path) -> Result<Source> {
    let config_file = folder.join("config.json");
    if !is_there(&config_file) {
        let reason = match advice(folder) {
            Some(advice) => format!("has no config.json: {advice}"),
            None => "has no config.json".to_owned(),
        };
        return Err(Error::file(folder, reason));
    }
    let name = config_file.display().to_string();
    let mut config = Config::parse(&read_json(&config_file)?, &name)?;
    let generation_file = folder.join("generation_config.json");
    let generation = read_object(&generation_file)?;
    if let Some(generation) = &generation {
        let file = generation_file.display().to_string();
        let eos = config::eos(generation, &file)?;
        config.check_eos(&eos, &file)?;
        for id in eos {
            if !config.eos.contains(&id) {
                config.eos.push(id);
            }
        }
    }
    let weights = weight_files(folder)?;
    let mut tensors = Tensors::new(weights.blamed.display().to_string());
    for (tensor, file) in &weights.places {
        let name = tensor.replace(".mlp.", &format!(".{}.", config.family.describe().block));
        tensors.place(name, file.display().to_string());
    }
    gather(&mut tensors, &weights.files, &config)?;
    tie(&mut config, &mut tensors)?;
    let tokenizer = Tokenizer::load(folder, config.vocabulary)?;
    Ok(Source {
        name,
        config,
        tensors,
        ggml: None,
        tokenizer,
        generation,
    })
}

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Settles whether the head is the embedding, as transformers does: not where a checkpoint has both and they differ,
/// whatever its configuration says; the one that is there where it has one alone.
fn tie(config: &mut Config, tensors: &mut Tensors) -> Result<()> {
    let head = tensors.contains(HEAD);
    // A configuration that does not say, and weights without a head: the embedding serves.
    if config.fields.get("tie_word_embeddings").is_none() && !head {
        config.tied = true;
    }
    if !config.tied || !head {
        return Ok(());
    }
    match tensors.same(HEAD, EMBEDDING) {
        Some(true) => {}
        Some(false) => config.tied = false,
        None => {
            if let Some(head) = tensors.remove(HEAD) {
                tensors.insert(EMBEDDING.to_owned(), head)?;
            }
        }
    }
    Ok(())
}

/// The tensors of one safetensors file under released names.
pub fn tensors(file: &Path, config: &Config) -> Result<Tensors> {
    let mut tensors = Tensors::new(file.display().to_string());
    gather(&mut tensors, &[file.to_owned()], config)?;
    Ok(tensors)
}

/// Adds those of all files.
fn gather(tensors: &mut Tensors, files: &[PathBuf], config: &Config) -> Result<()> {
    let interleaved = config.family.describe().interleaved;
    let mut blocks = interleaved::Blocks::new();
    for file in files {
        let wanted = |name: &str| interleaved && interleaved::is_part(name);
        let contents = safetensors::read_with_bytes(file, &wanted)?;
        for (name, tensor) in contents.tensors {
            for (name, tensor) in released(&name, tensor, config) {
                tensors.insert(name, tensor)?;
            }
        }
        for (name, part) in contents.bytes {
            let file = part.file().to_owned();
            if blocks.insert(name.clone(), part).is_some() {
                return Err(Error::tensor(&file, &name, "comes twice"));
            }
        }
    }
    join_scales(tensors)?;
    if interleaved {
        interleaved::separate(tensors, blocks, config)?;
    }
    Ok(())
}

/// A tensor under its released name; transformers' fused expert matrices come apart.
fn released(name: &str, tensor: TensorView, config: &Config) -> Vec<(String, TensorView)> {
    if config.leaves_unread(name) {
        return Vec::new();
    }
    let described = config.family.describe();
    if described.interleaved {
        return vec![(name.to_owned(), tensor)];
    }
    let [gate, up, down] = described.expert;
    let name = name.replace(".mlp.", &format!(".{}.", described.block));
    let name = if described.extras.linear {
        name.replacen("model.language_model.", "model.", 1)
    } else {
        name
    };
    let fused = |suffix: &str| {
        name.strip_suffix(suffix)
            // Other stacks stay whole, and are refused by name.
            .filter(|_| tensor.shape.len() == 3 && tensor.shape[0] == config.experts)
            .filter(|_| !tensor.bytes().is_empty())
            .map(str::to_owned)
    };
    if let Some(stem) = fused("experts.gate_up_proj") {
        let both = |e| {
            let both = tensor.rows(e..e + 1);
            let half = both.shape[0] / 2;
            let name = |part: &str| format!("{stem}experts.{e}.{part}.weight");
            [
                (name(gate), both.rows(0..half)),
                (name(up), both.rows(half..2 * half)),
            ]
        };
        return (0..tensor.shape[0]).flat_map(both).collect();
    }
    if let Some(stem) = fused("experts.down_proj") {
        let name = |e| format!("{stem}experts.{e}.{down}.weight");
        let part = |e| (name(e), tensor.rows(e..e + 1));
        return (0..tensor.shape[0]).map(part).collect();
    }
    vec![(name, tensor)]
}

/// Writes a folder that transformers 5.18 or newer loads, the weights as `dtype`. Each file is whole or absent,
/// `config.json` the last.
pub fn save(
    folder: &Path,
    model: &Released<'_>,
    tokenizer: Option<&Tokenizer>,
    generation: Option<&Map<String, Value>>,
    dtype: Format,
) -> Result<()> {
    let config = model.config;
    fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
    model.write(&folder.join(WEIGHTS), dtype)?;
    // A left-over index would shadow the file just written.
    match fs::remove_file(folder.join(INDEX)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::file(&folder.join(INDEX), e));
        }
        _ => {}
    }
    let mut generation = generation.cloned().unwrap_or_default();
    let known = generation.contains_key("eos_token_id") || config.eos.is_empty();
    if !known {
        let eos = if let [one] = config.eos[..] {
            json!(one)
        } else {
            json!(config.eos)
        };
        generation.insert("eos_token_id".to_owned(), eos);
    }
    let mut text = serde_json::to_string_pretty(&generation).expect("a map of JSON values is JSON");
    text.push('\n');
    write_atomically(&folder.join("generation_config.json"), text.as_bytes())?;
    if let Some(tokenizer) = tokenizer {
        tokenizer.save(folder)?;
    }
    write_atomically(
        &folder.join("config.json"),
        config.to_json(dtype_name(dtype)).as_bytes(),
    )
}

/// What `config.json` calls a dtype.
pub fn dtype_name(dtype: Format) -> &'static str {
    match dtype {
        Format::Bf16 => "bfloat16",
        Format::F16 => "float16",
        _ => "float32",
    }
}
