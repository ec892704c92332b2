//! Trainable parameters from a checkpoint's tensors, and a model's numbers under released names, for whoever writes them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use moevolve_checkpoint::tensors::chunks;
use moevolve_checkpoint::{Result, TensorSpec, Tensors, safetensors};
use moevolve_kernels::stored::Format;

use crate::checkpoint::interleaved;
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
    /// In the layout's order, unless they are stored.
    values: &'a [f32],
    /// Selection biases (layers, experts), likewise.
    selection: &'a [f32],
    stored: Option<&'a Stored>,
    /// Names and shapes.
    tensors: Vec<(String, Vec<usize>)>,
    /// Where the numbers of each are.
    sources: Vec<Source>,
    /// The expert whose numbers were last asked for, where files have all experts in one tensor.
    expert: RefCell<Option<Expert>>,
}

/// Where a tensor's numbers are.
#[derive(Clone, Debug)]
enum Source {
    /// In a tensor of the layout.
    Layout(usize),
    /// Selection biases of a layer.
    Selection(usize),
    /// In tensors of the layout, one or two of an expert, whose rows are columns here and take turns.
    Stacked(Vec<Vec<usize>>),
}

/// Matrices (out, inp) of an expert, by the first one's index in the layout.
struct Expert {
    first: usize,
    matrices: Vec<Vec<f32>>,
}

impl<'a> Released<'a> {
    /// Of `stored` weights, or of trainable ones where there are none.
    pub fn new(
        config: &'a Config,
        layout: &'a Layout,
        parameters: &'a Parameters,
        stored: Option<&'a Stored>,
    ) -> Self {
        let mut released = Self::of_values(config, layout, &parameters.values);
        (released.selection, released.stored) = (&parameters.bias, stored);
        for (layer, name) in bias_names(config).into_iter().enumerate() {
            released.tensors.push((name, vec![config.experts]));
            released.sources.push(Source::Selection(layer));
        }
        released
    }

    /// Of numbers in the layout's order, such as a gradient: there are none of selection biases.
    pub fn of_values(config: &'a Config, layout: &'a Layout, values: &'a [f32]) -> Self {
        let described = config.family.describe();
        let in_stack = |name: &str| described.interleaved && name.contains(".experts.");
        let mut entries: Vec<(String, Vec<usize>, Source)> = Vec::new();
        for (index, spec) in layout.tensors.iter().enumerate() {
            if !in_stack(&spec.name) {
                entries.push((spec.name.clone(), spec.shape(), Source::Layout(index)));
            }
        }
        if described.interleaved {
            entries.extend(stacked(config, layout));
        }
        let sources = entries
            .iter()
            .map(|(_, _, source)| source.clone())
            .collect();
        let tensors = entries.into_iter().map(|(name, shape, _)| (name, shape));
        Self {
            config,
            layout,
            values,
            selection: &[],
            stored: None,
            tensors: tensors.collect(),
            sources,
            expert: RefCell::default(),
        }
    }

    /// Names and shapes, a matrix as (out, inp).
    pub fn tensors(&self) -> impl Iterator<Item = &(String, Vec<usize>)> {
        self.tensors.iter()
    }

    /// Appends rows of the last dimension of tensor `index`; the rows of a vector are its numbers.
    pub fn rows(&self, index: usize, rows: Range<usize>, out: &mut Vec<f32>) {
        match &self.sources[index] {
            Source::Layout(at) => self.layout_rows(*at, rows, out),
            Source::Selection(layer) => {
                let experts = self.config.experts;
                let bias = match self.stored {
                    Some(stored) => stored.bias(*layer, experts),
                    None => &self.selection[layer * experts..][..experts],
                };
                out.extend(&bias[rows]);
            }
            Source::Stacked(experts) => {
                let height: usize = self.tensors[index].1[1..].iter().rev().skip(1).product();
                for row in rows {
                    self.column(&experts[row / height], row % height, out);
                }
            }
        }
    }

    /// Appends rows of a tensor of the layout.
    fn layout_rows(&self, at: usize, rows: Range<usize>, out: &mut Vec<f32>) {
        let spec = &self.layout.tensors[at];
        match self.stored {
            Some(stored) => stored.rows(spec, rows, out),
            None => spec.extract_rows(self.values, rows, out),
        }
    }

    /// Appends a column of an expert's matrices, number by number of each in turn.
    fn column(&self, matrices: &[usize], column: usize, out: &mut Vec<f32>) {
        let mut last = self.expert.borrow_mut();
        let expert = match last.take().filter(|expert| expert.first == matrices[0]) {
            Some(expert) => expert,
            None => {
                let numbers = |&at: &usize| {
                    let mut numbers = Vec::new();
                    let height = self.layout.tensors[at].shape()[0];
                    self.layout_rows(at, 0..height, &mut numbers);
                    numbers
                };
                Expert {
                    first: matrices[0],
                    matrices: matrices.iter().map(numbers).collect(),
                }
            }
        };
        let shape = self.layout.tensors[matrices[0]].shape();
        let width = shape.get(1).copied().unwrap_or(1);
        for row in 0..shape[0] {
            let at = row * width + column;
            out.extend(expert.matrices.iter().map(|numbers| numbers[at]));
        }
        *last = Some(expert);
    }

    /// Writes one safetensors file atomically, the weights as `dtype`; returns the BLAKE3 hash of its bytes in hex.
    pub fn write(&self, path: &Path, dtype: Format) -> Result<String> {
        // Biases of about 6 steer selections by their third digit: bf16 would round it away.
        let format = |index: usize| match self.sources[index] {
            Source::Selection(_) => Format::F32,
            _ => dtype,
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

/// The tensors that files have of all experts of a layer.
fn stacked(config: &Config, layout: &Layout) -> Vec<(String, Vec<usize>, Source)> {
    let described = config.family.describe();
    let (experts, hidden, inner) = (config.experts, config.hidden, config.intermediate);
    let specs = layout.tensors.iter().enumerate();
    let at: HashMap<&str, usize> = specs.map(|(at, spec)| (&spec.name[..], at)).collect();
    let mut entries = Vec::new();
    for layer in 0..config.layers {
        let stem = interleaved::stem(config, layer);
        for (name, out, inp, parts) in [
            ("gate_up_proj", 2 * inner, hidden, &[0, 1][..]),
            ("down_proj", hidden, inner, &[2][..]),
        ] {
            let sources = |suffix: &str| {
                let index = |e: usize, part: usize| {
                    let weight = described.expert_name(layer, e, part);
                    at[&weight.replace(".weight", suffix)[..]]
                };
                let of_expert = |e| parts.iter().map(|&part| index(e, part)).collect();
                Source::Stacked((0..experts).map(of_expert).collect())
            };
            let matrix = vec![experts, inp, out];
            entries.push((format!("{stem}{name}"), matrix, sources(".weight")));
            let bias = (
                format!("{stem}{name}_bias"),
                vec![experts, out],
                sources(".bias"),
            );
            entries.push(bias);
        }
    }
    entries
}
