//! A checkpoint folder in the Hugging Face layout.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use candle_core::DType;
use serde_json::{Map, Value, json};

use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::parameters::Parameters;
use crate::tokenizer::Tokenizer;
use crate::weights::{self, Tensors};

const INDEX: &str = "model.safetensors.index.json";
const WEIGHTS: &str = "model.safetensors";

/// What a folder holds.
pub struct Checkpoint {
    pub config: Config,
    pub layout: Layout,
    pub parameters: Parameters,
    /// What the weights were stored as.
    pub dtype: DType,
    pub tokenizer: Option<Tokenizer>,
    /// `generation_config.json`, if any.
    pub generation: Option<Map<String, Value>>,
}

/// Reads a whole folder, or says what is wrong with which file, key or tensor.
pub fn load(folder: &Path) -> Result<Checkpoint> {
    if !folder.is_dir() {
        return Err(Error::file(folder, "is not a checkpoint folder"));
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
    let mut tensors = Tensors::new();
    for file in weight_files(folder)? {
        weights::read_file(&file, &config, &mut tensors)?;
    }
    // Before memory is asked for: a wrong size may mean terabytes.
    let (promised, there) = (config.parameters(), numbers(&tensors));
    if promised > 2.0 * there {
        let reason =
            format!("its sizes make {promised:.0} parameters, but the weights hold {there:.0}");
        return Err(Error::file(&config_file, reason));
    }
    let (promised, there) = (config.tensors(), tensors.len());
    if promised > 2.0 * there as f64 + 16.0 {
        let reason = format!("its sizes make {promised:.0} tensors, but the weights hold {there}");
        return Err(Error::file(&config_file, reason));
    }
    let layout = Layout::new(&config);
    let narrow = |dtype| tensors.values().any(|(tensor, _)| tensor.dtype() == dtype);
    let dtype = if narrow(DType::BF16) {
        DType::BF16
    } else {
        DType::F32
    };
    let parameters = weights::assemble(tensors, &config, &layout, &folder.display().to_string())?;
    let tokenizer = Tokenizer::load(folder, config.vocabulary)?;
    Ok(Checkpoint {
        config,
        layout,
        parameters,
        dtype,
        tokenizer,
        generation,
    })
}

/// Writes a folder that transformers 5.18 or newer loads. Each file is whole or absent, `config.json` the last.
pub fn save(folder: &Path, checkpoint: &CheckpointRef<'_>, dtype: DType) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
    let name = match dtype {
        DType::BF16 => "bfloat16",
        _ => "float32",
    };
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
    write_atomically(&folder.join("config.json"), config.to_json(name).as_bytes())
}

/// What [`save`] writes.
pub struct CheckpointRef<'a> {
    pub config: &'a Config,
    pub layout: &'a Layout,
    pub parameters: &'a Parameters,
    pub tokenizer: Option<&'a Tokenizer>,
    pub generation: Option<&'a Map<String, Value>>,
}

fn numbers(tensors: &Tensors) -> f64 {
    tensors
        .values()
        .map(|(tensor, _)| tensor.elem_count() as f64)
        .sum()
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
