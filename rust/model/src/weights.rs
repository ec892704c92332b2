//! Trainable parameters from a checkpoint's tensors, and a model's numbers under released names, for whoever writes them.

use std::ops::Range;
use std::path::Path;

use moevolve_checkpoint::tensors::chunks;
use moevolve_checkpoint::{Result, TensorSpec, Tensors, safetensors};
use moevolve_kernels::stored::Format;

use crate::config::Config;
use crate::layout::{Layout, bias_names};
use crate::parameters::Parameters;
use crate::stored::Stored;

/// Fills trainable parameters from tensors: none missing, none left over, every shape right, every number finite.
pub fn assemble(mut tensors: Tensors, config: &Config, layout: &Layout) -> Result<Parameters> {
    let mut values = vec![0.0; layout.total];
    for spec in &layout.tensors {
        let tensor = tensors.take(&spec.name, &spec.shape())?;
        spec.insert(&tensor.finite_values(&spec.name)?, &mut values);
    }
    let mut bias = Vec::new();
    for name in bias_names(config) {
        bias.extend(
            tensors
                .take(&name, &[config.experts])?
                .finite_values(&name)?,
        );
    }
    nothing_left(tensors, config)?;
    Ok(Parameters::new(values, bias, layout))
}

/// Refuses tensors that nothing took.
pub fn nothing_left(mut tensors: Tensors, config: &Config) -> Result<()> {
    if config.tied {
        tensors.remove("lm_head.weight");
    }
    tensors.finish("is not part of this architecture and its configuration")
}

/// A model's tensors under released names in canonical order, selection biases last, whatever holds their numbers.
pub struct Released<'a> {
    pub config: &'a Config,
    layout: &'a Layout,
    parameters: &'a Parameters,
    stored: Option<&'a Stored>,
    /// Names and shapes.
    tensors: Vec<(String, Vec<usize>)>,
}

impl<'a> Released<'a> {
    /// Of `stored` weights, or of trainable ones where there are none.
    pub fn new(
        config: &'a Config,
        layout: &'a Layout,
        parameters: &'a Parameters,
        stored: Option<&'a Stored>,
    ) -> Self {
        let biases = bias_names(config)
            .into_iter()
            .map(|name| (name, vec![config.experts]));
        let spec = layout.tensors.iter();
        Self {
            config,
            layout,
            parameters,
            stored,
            tensors: spec
                .map(|spec| (spec.name.clone(), spec.shape()))
                .chain(biases)
                .collect(),
        }
    }

    /// Names and shapes, a matrix as (out, inp).
    pub fn tensors(&self) -> impl Iterator<Item = &(String, Vec<usize>)> {
        self.tensors.iter()
    }

    /// Appends rows of tensor `index`; the rows of a vector are its numbers.
    pub fn rows(&self, index: usize, rows: Range<usize>, out: &mut Vec<f32>) {
        match (self.layout.tensors.get(index), self.stored) {
            (Some(spec), Some(stored)) => stored.rows(spec, rows, out),
            (Some(spec), None) => spec.extract_rows(&self.parameters.values, rows, out),
            (None, stored) => {
                let (layer, experts) = (index - self.layout.tensors.len(), self.config.experts);
                let bias = match stored {
                    Some(stored) => stored.bias(layer, experts),
                    None => self.parameters.bias(layer, experts),
                };
                out.extend(&bias[rows]);
            }
        }
    }

    /// Writes one safetensors file atomically, the weights as `dtype`; returns the BLAKE3 hash of its bytes in hex.
    pub fn write(&self, path: &Path, dtype: Format) -> Result<String> {
        // Biases of about 6 steer selections by their third digit: bf16 would round it away.
        let format = |index| match index < self.layout.tensors.len() {
            true => dtype,
            false => Format::F32,
        };
        let spec = |(index, (name, shape)): (usize, &(String, Vec<usize>))| TensorSpec {
            name: name.clone(),
            shape: shape.clone(),
            format: format(index),
        };
        let specs: Vec<_> = self.tensors.iter().enumerate().map(spec).collect();
        safetensors::write(path, ("format", "pt"), &specs, &mut |index, rows, out| {
            self.rows(index, rows, out);
            Ok(())
        })
    }

    /// BLAKE3 over every tensor's name, shape and f32 values.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        for (index, (name, shape)) in self.tensors.iter().enumerate() {
            hasher.update(format!("{name} {shape:?}\n").as_bytes());
            for rows in chunks(shape) {
                values.clear();
                self.rows(index, rows, &mut values);
                bytes.clear();
                bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
                hasher.update(&bytes);
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}
