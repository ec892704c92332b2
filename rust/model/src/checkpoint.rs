//! A checkpoint folder in the Hugging Face layout.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use candle_core::DType;
use moevolve_kernels::stored::Format;
use moevolve_kernels::team::Team;
use serde_json::{Map, Value, json};

use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::gguf;
use crate::layout::Layout;
use crate::parameters::Parameters;
use crate::raw::Raw;
use crate::stored::{self, Ggml, Stored};
use crate::tokenizer::Tokenizer;
use crate::weights::{self, Raws};

const INDEX: &str = "model.safetensors.index.json";
const WEIGHTS: &str = "model.safetensors";

/// What a folder holds.
pub struct Checkpoint {
    pub config: Config,
    pub layout: Layout,
    /// Trainable weights; empty if they are `stored`.
    pub parameters: Parameters,
    /// Weights that stay as their file has them.
    pub stored: Option<Stored>,
    /// What the weights were stored as.
    pub dtype: DType,
    pub tokenizer: Option<Tokenizer>,
    /// `generation_config.json`, if any.
    pub generation: Option<Map<String, Value>>,
}

/// What becomes of weights that are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Trainable up to [`LARGEST_TRAINABLE`] parameters in a float format, stored beyond.
    #[default]
    Auto,
    /// Decoded into f32, packed, and ready for training: 8 to 12 bytes a parameter, 20 with an optimiser.
    Trainable,
    /// As the file has them: mapped, for reading only.
    Stored,
}

impl Keep {
    /// `auto`, `trainable` or `stored`.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "trainable" => Ok(Self::Trainable),
            "stored" => Ok(Self::Stored),
            other => {
                let known = "auto, trainable or stored";
                Err(Error::Request(format!(
                    "weights {other:?} is unknown: {known}"
                )))
            }
        }
    }
}

/// Parameters up to which weights are made trainable unasked: about a gigabyte.
const LARGEST_TRAINABLE: f64 = 1e8;

/// Reads a whole folder or GGUF file, or says what is wrong with which file, key or tensor.
///
/// The threads of `team` look through weights that stay stored.
pub fn load(folder: &Path, keep: Keep, team: &Team) -> Result<Checkpoint> {
    if folder.is_file() {
        return gguf::load(folder, keep, team);
    }
    if !folder.is_dir() {
        return Err(Error::file(
            folder,
            "is neither a checkpoint folder nor a GGUF file",
        ));
    }
    let config_file = folder.join("config.json");
    let mut config = Config::parse(
        &read_text(&config_file)?,
        &config_file.display().to_string(),
    )?;
    let generation = optional_object(&folder.join("generation_config.json"))?;
    if let Some(generation) = &generation {
        let file = folder.join("generation_config.json").display().to_string();
        let eos = config::eos(generation, &file)?;
        config.check_eos(&eos, &file)?;
        for id in eos {
            if !config.eos.contains(&id) {
                config.eos.push(id);
            }
        }
    }
    let mut raws = Raws::new();
    for file in weight_files(folder)? {
        weights::read_file(&file, &config, &mut raws)?;
    }
    weights::join_scales(&mut raws)?;
    // A configuration that does not say whether the head is tied, and weights without a head: the embedding serves.
    if config.fields.get("tie_word_embeddings").is_none() && !raws.contains_key("lm_head.weight") {
        config.tied = true;
    }
    let tokenizer = Tokenizer::load(folder, config.vocabulary)?;
    let file = config_file.display().to_string();
    place(config, raws, None, keep, &file, team, tokenizer, generation)
}

/// A checkpoint of tensors under released names; `file` names it where they do not fit its configuration. `as_ggml`:
/// what only a GGUF file says.
#[allow(clippy::too_many_arguments)]
pub fn place(
    config: Config,
    raws: Raws,
    as_ggml: Option<Ggml>,
    keep: Keep,
    file: &str,
    team: &Team,
    tokenizer: Option<Tokenizer>,
    generation: Option<Map<String, Value>>,
) -> Result<Checkpoint> {
    let wrong = |reason: String| {
        let file = file.to_owned();
        Err(Error::File { file, reason })
    };
    // Before memory is asked for: a wrong size may mean terabytes.
    let (promised, there) = (config.parameters(), numbers(&raws));
    if promised > 2.0 * there {
        return wrong(format!(
            "its sizes make {promised:.0} parameters, but the weights hold {there:.0}"
        ));
    }
    let (promised, there) = (config.tensors(), raws.len());
    if promised > 2.0 * there as f64 + 16.0 {
        return wrong(format!(
            "its sizes make {promised:.0} tensors, but the weights hold {there}"
        ));
    }
    let layout = Layout::new(&config);
    let float = |raw: &Raw| matches!(raw.format, Format::F32 | Format::F16 | Format::Bf16);
    // The narrowest that loses nothing; what is quantised is saved as bf16.
    let has = |format| raws.values().any(|raw| raw.format == format);
    let dtype = if raws.values().all(|raw| raw.format == Format::F32) {
        DType::F32
    } else if has(Format::F16) && !has(Format::Bf16) && raws.values().all(float) {
        DType::F16
    } else {
        DType::BF16
    };
    let large = config.parameters() > LARGEST_TRAINABLE || !raws.values().all(float);
    let stays = match (keep, stored::obstacle(&layout)) {
        (Keep::Stored, Some(obstacle)) => {
            return wrong(format!(
                "its weights cannot be used as they are stored: {obstacle}"
            ));
        }
        (Keep::Stored, None) => true,
        (Keep::Auto, None) => large,
        _ => false,
    };
    let (parameters, stored) = if stays {
        let stored = Stored::assemble(raws, &config, &layout, as_ggml, file, team)?;
        (Parameters::none(), Some(stored))
    } else {
        let parameters = weights::assemble(raws, &config, &layout, file)?;
        (parameters, None)
    };
    Ok(Checkpoint {
        config,
        layout,
        parameters,
        stored,
        dtype,
        tokenizer,
        generation,
    })
}

/// Writes a folder that transformers 5.18 or newer loads. Each file is whole or absent, `config.json` the last.
pub fn save(folder: &Path, checkpoint: &CheckpointRef<'_>, dtype: DType) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
    let &CheckpointRef {
        config,
        layout,
        parameters,
        tokenizer,
        generation,
    } = checkpoint;
    weights::write_file(&folder.join(WEIGHTS), parameters, config, layout, dtype)?;
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
pub fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    }
}

/// What [`save`] writes.
pub struct CheckpointRef<'a> {
    pub config: &'a Config,
    pub layout: &'a Layout,
    pub parameters: &'a Parameters,
    pub tokenizer: Option<&'a Tokenizer>,
    pub generation: Option<&'a Map<String, Value>>,
}

fn numbers(raws: &Raws) -> f64 {
    let count = |raw: &Raw| raw.shape.iter().map(|&n| n as f64).product::<f64>();
    raws.values().map(count).sum()
}

/// The files that an index names, or the single file.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let index = folder.join(INDEX);
    let Some(map) = optional_object(&index)? else {
        return Ok(vec![folder.join(WEIGHTS)]);
    };
    let Some(Value::Object(places)) = map.get("weight_map") else {
        return Err(Error::file(&index, "weight_map is missing"));
    };
    let mut names = BTreeSet::new();
    for (tensor, name) in places {
        let name = name.as_str().unwrap_or_default();
        let mut parts = Path::new(name).components();
        if !matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        ) {
            return Err(Error::file(
                &index,
                format!("{tensor} is said to lie in {name:?}, outside the folder"),
            ));
        }
        names.insert(name);
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::file(path, e))
}

fn optional_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.exists() {
        return Ok(None);
    }
    match serde_json::from_str(&read_text(path)?) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(_) => Err(Error::file(path, "is not a JSON object")),
        Err(e) => Err(Error::file(path, format!("is not JSON: {e}"))),
    }
}

/// Writes a file whole or not at all: a temporary beside it, synced, then renamed over it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomically`], what `fill` puts into the temporary.
pub fn write_atomically_with(
    path: &Path,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&partial)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        // The rename itself is durable once the folder is.
        match path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            Some(folder) => File::open(folder)?.sync_all(),
            None => File::open(".")?.sync_all(),
        }
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&partial);
        Error::file(path, e)
    })
}
