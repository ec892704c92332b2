//! An adapter beside the engine's weights: made, read, written as PEFT does, merged.

use std::path::Path;

use moevolve_checkpoint::files::{is_there, read_object, write_atomically};
use moevolve_checkpoint::{Error as FileError, TensorSpec, Tensors, safetensors};
use moevolve_kernels::Precision;
use moevolve_kernels::stored::Format;
use serde_json::{Value, json};

use super::Engine;
use crate::adapter::{Adapter, Settings};
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::train::Trainer;

/// PEFT's names for the two files of a folder.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What older versions called the second.
const PICKLED: &str = "adapter_model.bin";

/// Keys of PEFT's configuration that change what an adapter computes, with the values that mean nothing special; of
/// initialisations those that leave the base as it is: PEFT does the others again while it loads.
const PLAIN: [(&str, &[&str]); 16] = [
    ("bias", &["\"none\""]),
    ("use_dora", &["false"]),
    ("fan_in_fan_out", &["false"]),
    ("modules_to_save", &["null", "[]"]),
    ("rank_pattern", &["{}", "null"]),
    ("alpha_pattern", &["{}", "null"]),
    ("layers_to_transform", &["null", "[]"]),
    ("target_parameters", &["null", "[]"]),
    ("lora_bias", &["false", "null"]),
    ("exclude_modules", &["null", "[]"]),
    ("alora_invocation_tokens", &["null"]),
    ("layer_replication", &["null"]),
    ("trainable_token_indices", &["null"]),
    ("use_bdlora", &["null", "false"]),
    ("use_qalora", &["false"]),
    (
        "init_lora_weights",
        &[
            "true",
            "false",
            "null",
            "\"gaussian\"",
            "\"eva\"",
            "\"orthogonal\"",
        ],
    ),
];

/// Keys that are read, or say how the adapter was made and nothing about what it computes.
const HARMLESS: [&str; 23] = [
    "peft_type",
    "r",
    "lora_alpha",
    "target_modules",
    "use_rslora",
    "task_type",
    "base_model_name_or_path",
    "revision",
    "peft_version",
    "inference_mode",
    "auto_mapping",
    "lora_dropout",
    "layers_pattern",
    "megatron_config",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "qalora_group_size",
    "runtime_config",
    "merge_weights",
    "transformers_version",
];

impl Engine {
    /// Freezes the weights, stored or not, and puts an adapter beside them: from here it alone trains.
    pub fn adapt(&mut self, settings: Settings, seed: u64) -> Result<()> {
        self.refuse_second()?;
        let adapter = Adapter::new(settings, &self.config, &self.layout, seed)?;
        self.put_beside(adapter)
    }

    /// Puts an adapter beside weights that have none.
    fn put_beside(&mut self, adapter: Adapter) -> Result<()> {
        if let Some(card) = &mut self.card {
            if card.weights.precision() != Precision::F32 {
                return Err(super::card::adapter_precision());
            }
            card.weights.put_adapter(&adapter)?;
        }
        self.weights_version += 1;
        self.adapter = Some(adapter);
        Ok(())
    }

    fn refuse_second(&self) -> Result<()> {
        if self.adapter.is_none() {
            return Ok(());
        }
        let reason = "there is an adapter already: merge it first, or load the model again";
        Err(Error::Request(reason.to_owned()))
    }

    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Adds the adapter to the weights, which train from here: stored ones become f32.
    pub fn merge(&mut self) -> Result<()> {
        if self.adapter.is_none() {
            let reason = "there is no adapter to merge: call adapt, or load one";
            return Err(Error::Request(reason.to_owned()));
        }
        if self.card.is_some() {
            return self.merge_on_card();
        }
        self.weights_version += 1;
        let Some(adapter) = self.adapter.take() else {
            return Ok(());
        };
        let precision = self.precision();
        if let Some(stored) = self.stored.take() {
            self.parameters = stored.weights.to_parameters(&self.layout);
        }
        adapter.merge_into(&mut self.parameters.values);
        self.parameters.set_precision(precision, &self.layout);
        Ok(())
    }

    /// As [`Self::merge`], by the processor's sums: the weights are the same to the bit wherever they are merged.
    fn merge_on_card(&mut self) -> Result<()> {
        let mut host = self.on_host()?;
        host.merge()?;
        let Some(card) = &mut self.card else {
            return Ok(());
        };
        card.weights.forget_adapter();
        let Parameters { values, bias, .. } = host.parameters;
        card.weights.put(&values, &bias)?;
        card.optimizer = card.optimizer.like();
        card.trainer = Trainer::default();
        self.weights_version += 1;
        (self.stored, self.adapter) = (None, None);
        self.parameters = Parameters {
            bias,
            ..Parameters::none()
        };
        Ok(())
    }

    fn adapter_or_error(&self) -> Result<&Adapter> {
        self.adapter.as_ref().ok_or_else(|| {
            Error::Request("there is no adapter: call adapt, or load one".to_owned())
        })
    }

    /// Writes a folder that PEFT loads: its configuration, then its weights in f32. `base` is what the configuration
    /// calls the model.
    pub fn save_adapter(&self, folder: &Path, base: &str) -> Result<()> {
        let adapter = self.adapter_or_error()?;
        std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
        let settings = &adapter.settings;
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": settings.rank,
            "lora_alpha": settings.alpha,
            "use_rslora": settings.root,
            "target_modules": adapter.modules(),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_dora": false,
            "init_lora_weights": true,
            "inference_mode": true,
            "modules_to_save": null,
            "rank_pattern": {},
            "alpha_pattern": {},
        });
        self.write_adapter(&folder.join(WEIGHTS))?;
        let text = format!("{config:#}\n");
        Ok(write_atomically(&folder.join(CONFIG), text.as_bytes())?)
    }

    /// Puts the adapter of a folder that PEFT or [`Self::save_adapter`] wrote beside the weights.
    pub fn load_adapter(&mut self, folder: &Path) -> Result<()> {
        self.refuse_second()?;
        let settings = settings(&folder.join(CONFIG))?;
        let mut fresh = Adapter::new(settings, &self.config, &self.layout, 0)?;
        let weights = folder.join(WEIGHTS);
        if !is_there(&weights) {
            let reason = match is_there(&folder.join(PICKLED)) {
                true => format!(
                    "its weights are {PICKLED}, pickled, which could run code: load it with PEFT and save it again (save_pretrained)"
                ),
                false => format!("has no {WEIGHTS}: an adapter is a folder as PEFT writes it"),
            };
            return Err(FileError::file(folder, reason).into());
        }
        fill(&mut fresh, &weights)?;
        self.put_beside(fresh)
    }

    /// The adapter's tensors as one file under PEFT's names; returns the hash of its bytes.
    pub(super) fn write_adapter(&self, file: &Path) -> Result<String> {
        let adapter = self.adapter_or_error()?;
        let tensors = adapter.tensors(&adapter.values);
        let spec = |(name, shape, _): &(String, [usize; 2], Vec<f32>)| TensorSpec {
            name: name.clone(),
            shape: shape.to_vec(),
            format: Format::F32,
        };
        let specs: Vec<_> = tensors.iter().map(spec).collect();
        let hash = safetensors::write(file, ("format", "pt"), &specs, &mut |index, rows, out| {
            let (_, [_, width], values) = &tensors[index];
            out.extend_from_slice(&values[rows.start * width..rows.end * width]);
            Ok(())
        });
        Ok(hash?)
    }

    /// The adapter with its tensors from a file.
    pub(super) fn read_adapter(&self, file: &Path) -> Result<Adapter> {
        let mut fresh = self.adapter_or_error()?.clone();
        fill(&mut fresh, file)?;
        Ok(fresh)
    }
}

/// BLAKE3 over an adapter's settings and every tensor's name, shape and values.
pub(super) fn fingerprint(adapter: &Adapter) -> String {
    let mut hasher = blake3::Hasher::new();
    let Settings {
        rank, alpha, root, ..
    } = adapter.settings;
    hasher.update(format!("lora {rank} {alpha} {root}\n").as_bytes());
    for (name, shape, values) in adapter.tensors(&adapter.values) {
        hasher.update(format!("{name} {shape:?}\n").as_bytes());
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}

/// All tensors of a file, none missing, none left over, every number finite.
fn fill(adapter: &mut Adapter, file: &Path) -> Result<()> {
    let mut tensors = Tensors::new(file.display().to_string());
    for (name, tensor) in safetensors::read(file)? {
        tensors.insert(name, tensor)?;
    }
    adapter.fill(|name, shape| Ok(tensors.take(name, shape)?.finite_values(name)?))?;
    Ok(tensors.finish("is beside no matrix that the adapter's configuration targets")?)
}

/// Reads PEFT's configuration strictly: what this engine would compute otherwise is refused by its key.
fn settings(file: &Path) -> std::result::Result<Settings, FileError> {
    let Some(parsed) = read_object(file)? else {
        let reason = "does not exist: an adapter is a folder as PEFT writes it";
        return Err(FileError::file(file, reason));
    };
    let wrong = |key: &str, reason: &str| FileError::Config {
        file: file.display().to_string(),
        key: key.to_owned(),
        reason: reason.to_owned(),
    };
    if parsed.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        return Err(wrong("peft_type", "must be LORA"));
    }
    for (key, plain) in PLAIN {
        if let Some(value) = parsed.get(key)
            && !plain.contains(&value.to_string().as_str())
        {
            let reason = format!("{value} is not supported: only {}", plain.join(" or "));
            return Err(wrong(key, &reason));
        }
    }
    // What a later PEFT can say beside plain LoRA is none here.
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    };
    let plain = |key: &str| PLAIN.iter().any(|(plain, _)| *plain == key);
    if let Some((key, value)) = parsed
        .iter()
        .find(|(key, value)| says(value) && !plain(key) && !HARMLESS.contains(&key.as_str()))
    {
        let reason = format!("{value} is not supported: only plain LoRA is");
        return Err(wrong(key, &reason));
    }
    let rank = parsed.get("r").and_then(Value::as_u64);
    let rank = rank.ok_or_else(|| wrong("r", "must be a whole number"))? as usize;
    let alpha = parsed.get("lora_alpha").and_then(Value::as_f64);
    let alpha = alpha.ok_or_else(|| wrong("lora_alpha", "must be a number"))? as f32;
    let targets = match parsed.get("target_modules") {
        Some(Value::Array(names)) => names
            .iter()
            .map(|n| n.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    };
    let targets: Vec<String> =
        targets.ok_or_else(|| wrong("target_modules", "must be a list of names"))?;
    // PEFT takes the end of a module's path; the last name says which kind it is.
    let targets = targets
        .iter()
        .map(|name| name.rsplit('.').next().unwrap_or(name).to_owned())
        .collect();
    let root = match parsed.get("use_rslora") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(root)) => *root,
        Some(other) => {
            let reason = format!("{other} is neither true nor false");
            return Err(wrong("use_rslora", &reason));
        }
    };
    Settings::new(rank, alpha, targets, root)
        .map_err(|error| wrong("r, lora_alpha or target_modules", &error.to_string()))
}
