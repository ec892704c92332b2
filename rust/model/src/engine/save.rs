//! The engine's weights out: a Hugging Face folder, a GGUF file, one file of f32, a fingerprint.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use candle_core::DType;

use super::Engine;
use crate::checkpoint::{self, CheckpointRef};
use crate::error::{Error, Result};
use crate::gguf::{self, write::Target};
use crate::layout::{Named, bias_names};
use crate::parameters::Parameters;
use crate::tokenizer::Tokenizer;
use crate::weights;

impl Engine {
    /// The weights as f32, decoded if they are stored in another format.
    fn dense(&self) -> Cow<'_, Parameters> {
        match &self.stored {
            Some(stored) => Cow::Owned(stored.to_parameters(&self.layout)),
            None => Cow::Borrowed(&self.parameters),
        }
    }

    /// Writes a checkpoint folder, `dtype` being `f32`, `bf16`, `f16` or None for what was loaded; or, where the name ends
    /// in `.gguf`, such a file, with `f32`, `f16`, `q8_0`, `q4_0`, `q4_k`, or None for `f16`.
    ///
    /// An adapter is merged into what is written.
    pub fn save(&self, folder: &Path, dtype: Option<&str>) -> Result<()> {
        if self.adapter.is_some() {
            let mut whole = self.duplicate();
            whole.merge()?;
            return whole.save(folder, dtype);
        }
        if folder
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            return self.save_gguf(folder, Target::named(dtype.unwrap_or("f16"))?);
        }
        let dtype = match dtype {
            None => self.dtype,
            Some("f32") => DType::F32,
            Some("bf16") => DType::BF16,
            Some("f16") => DType::F16,
            Some(other) => {
                return Err(Error::Request(format!(
                    "dtype {other:?} is unknown: f32, bf16 or f16"
                )));
            }
        };
        let whole = CheckpointRef {
            config: &self.config,
            layout: &self.layout,
            parameters: &self.dense(),
            tokenizer: self.tokenizer.as_deref(),
            generation: self.generation.as_ref(),
        };
        checkpoint::save(folder, &whole, dtype)
    }

    fn save_gguf(&self, file: &Path, target: Target) -> Result<()> {
        let shapes = |named: &Named| (named.name.clone(), named.shape());
        let mut tensors: Vec<_> = self.layout.named.iter().map(shapes).collect();
        let biases = bias_names(&self.config);
        tensors.extend(
            biases
                .iter()
                .map(|name| (name.clone(), vec![self.config.experts])),
        );
        let texts = self
            .tokenizer
            .as_deref()
            .map(Tokenizer::texts)
            .unwrap_or_default();
        let place: HashMap<_, _> = self
            .layout
            .named
            .iter()
            .map(|n| (n.name.as_str(), n))
            .collect();
        gguf::write::write(file, &self.config, texts, target, &tensors, &mut |name| {
            if let Some(layer) = biases.iter().position(|bias| bias == name) {
                return Ok(match &self.stored {
                    Some(stored) => stored.bias(layer, self.config.experts),
                    None => self.parameters.bias(layer, self.config.experts),
                }
                .to_vec());
            }
            let named = place
                .get(name)
                .ok_or_else(|| Error::Request(format!("the model has no tensor {name}")))?;
            Ok(match &self.stored {
                Some(stored) => stored.numbers(named),
                None => named.extract(&self.parameters.values),
            })
        })
    }

    /// Writes what trains into one file, atomically: the weights in f32, or the adapter alone; returns the hash of its
    /// bytes.
    pub fn write_weights(&self, file: &Path) -> Result<String> {
        if self.adapter.is_some() {
            return self.write_adapter(file);
        }
        weights::write_file(file, &self.dense(), &self.config, &self.layout, DType::F32)
    }

    /// Hash of what trains: the weights, or the adapter alone.
    pub fn fingerprint(&self) -> String {
        match &self.adapter {
            Some(adapter) => super::adapt::fingerprint(adapter),
            None => weights::fingerprint(&self.dense(), &self.config, &self.layout),
        }
    }

    /// `config.json` as it would be saved.
    pub fn config_json(&self) -> String {
        self.config.to_json(checkpoint::dtype_name(self.dtype))
    }
}
