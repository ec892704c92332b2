//! The engine's weights out: a Hugging Face folder, a GGUF file, one file of f32, a fingerprint.

use std::path::Path;

use moevolve_kernels::stored::Format;

use super::Engine;
use crate::checkpoint::{gguf, huggingface};
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::weights::Released;

impl Engine {
    /// The weights under released names, without the adapter.
    fn released<'a>(&'a self, parameters: &'a Parameters) -> Released<'a> {
        let stored = self.stored.as_ref().map(|stored| &*stored.weights);
        Released::new(&self.config, &self.layout, parameters, stored)
    }

    /// Writes a checkpoint folder, `dtype` being `f32`, `bf16`, `f16` or None for what was loaded; or, where the name ends
    /// in `.gguf`, such a file, which is read back before it takes its place, with `f32`, `f16`, `bf16`, `q8_0`, `q4_0`, `q4_k`, or None for `f16`.
    ///
    /// An adapter is merged into what is written.
    pub fn save(&self, path: &Path, dtype: Option<&str>) -> Result<()> {
        self.save_parts(path, dtype, None)
    }

    /// As [`Self::save`], a GGUF file in parts of at most `most` bytes of tensors (`NAME-00001-of-00003.gguf`).
    pub fn save_parts(&self, path: &Path, dtype: Option<&str>, most: Option<usize>) -> Result<()> {
        if self.adapter.is_some() {
            let mut whole = self.on_host()?;
            whole.merge()?;
            return whole.save_parts(path, dtype, most);
        }
        if self.card.is_some() {
            return self.on_host()?.save_parts(path, dtype, most);
        }
        let (model, tokenizer) = (self.released(&self.parameters), self.tokenizer.as_deref());
        if path.extension().is_some_and(|end| end == "gguf") {
            let target = gguf::Target::named(dtype.unwrap_or("f16"))?;
            let check = |file: &Path| self.read_back(file);
            return Ok(gguf::save(
                path, &model, tokenizer, target, &self.pool, most, check,
            )?);
        }
        if most.is_some() {
            let reason = "only a GGUF file is written in parts: end the name in .gguf";
            return Err(Error::Request(reason.to_owned()));
        }
        let dtype = match dtype {
            None => self.dtype,
            Some("f32") => Format::F32,
            Some("bf16") => Format::Bf16,
            Some("f16") => Format::F16,
            Some(other) => {
                let reason = format!("dtype {other:?} is unknown: f32, bf16 or f16");
                return Err(Error::Request(reason));
            }
        };
        let generation = self.generation.as_ref();
        Ok(huggingface::save(
            path, &model, tokenizer, generation, dtype,
        )?)
    }

    /// Writes what trains into one file, atomically: the weights in f32, or the adapter alone; returns the hash of its
    /// bytes.
    pub fn write_weights(&self, file: &Path) -> Result<String> {
        if self.adapter.is_some() {
            return self.write_adapter(file);
        }
        let parameters = self.host_parameters()?;
        Ok(self.released(&parameters).write(file, Format::F32)?)
    }

    /// Hash of what trains: the weights, or the adapter alone. Of a card that fails: see [`Self::check_device`].
    pub fn fingerprint(&self) -> String {
        if let Some(adapter) = &self.adapter {
            return super::adapt::fingerprint(adapter);
        }
        match self.host_parameters() {
            Ok(parameters) => self.released(&parameters).fingerprint(),
            Err(error) => {
                self.keep_failure(error);
                String::new()
            }
        }
    }

    /// `config.json` as it would be saved.
    pub fn config_json(&self) -> String {
        self.config.to_json(huggingface::dtype_name(self.dtype))
    }
}
