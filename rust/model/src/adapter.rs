//! LoRA: matrices of low rank beside frozen ones (Hu et al. 2021), y = W x + (alpha / rank) B A x.
//!
//! The A's of matrices that lie over one another in the layout lie over one another too, and their B's stand on the
//! diagonal of one matrix, so that one product serves all; what is off the diagonal stays zero.

mod lora;

use std::collections::BTreeMap;
use std::ops::Range;

use moevolve_kernels::panels::{Panels, Precision, Side};
use moevolve_kernels::sample::uniform;
use moevolve_kernels::{Isa, padded};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::layout::{Axis, Layout, Matrix};

pub use lora::{Lora, Scratch};

/// What can be adapted, by the names that most families use; the experts' own names are understood too.
pub const TARGETS: [&str; 7] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
];

/// What can be adapted of layers with linear attention besides, by name.
pub const LINEAR_TARGETS: [&str; 5] = [
    "in_proj_qkv",
    "in_proj_z",
    "in_proj_b",
    "in_proj_a",
    "out_proj",
];

/// What an adapter is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub rank: usize,
    pub alpha: f32,
    /// Some of [`TARGETS`].
    pub targets: Vec<String>,
    /// Divide alpha by the root of the rank instead of the rank (Kalajdzievski 2023).
    pub root: bool,
}

impl Settings {
    /// Checks every part.
    pub fn new(rank: usize, alpha: f32, targets: Vec<String>, root: bool) -> Result<Self> {
        let wrong = |what: String| Err(Error::Request(what));
        if !(1..=1024).contains(&rank) {
            return wrong(format!("an adapter's rank lies in 1..=1024, not {rank}"));
        }
        if !(alpha.is_finite() && alpha > 0.0) {
            return wrong(format!(
                "an adapter's alpha is finite and positive, not {alpha}"
            ));
        }
        if targets.is_empty() {
            return wrong(format!(
                "an adapter needs targets: some of {}",
                TARGETS.join(", ")
            ));
        }
        let mut sorted: Vec<String> = Vec::new();
        for target in targets {
            if !sorted.contains(&target) {
                sorted.push(target);
            }
        }
        Ok(Self {
            rank,
            alpha,
            targets: sorted,
            root,
        })
    }

    /// What B A is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.root { rank.sqrt() } else { rank }
    }
}

/// One adapted tensor of the checkpoint.
#[derive(Clone, Debug)]
pub struct Part {
    /// The released name without `.weight`.
    pub module: String,
    rows: Axis,
    columns: Axis,
    /// Where its outputs begin in the unit, and its ranks.
    first: (usize, usize),
}

/// What stands beside one matrix of the layout.
#[derive(Clone, Debug)]
struct Unit {
    /// (ranks, inp), in the adapter's values.
    a: Matrix,
    /// (out, ranks).
    b: Matrix,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub struct Adapter {
    pub settings: Settings,
    /// By where the matrix begins in the layout.
    units: BTreeMap<usize, Unit>,
    /// All A's and B's, padded with zeros.
    pub values: Vec<f32>,
    /// Packed, B times the scale.
    forward: Panels,
    backward: Panels,
}

impl Adapter {
    /// A drawn as PEFT draws it, uniform within 1 / sqrt(inputs); B zero, so that nothing changes yet.
    pub fn new(settings: Settings, config: &Config, layout: &Layout, seed: u64) -> Result<Self> {
        let described = config.family.describe();
        let canonical = |last: &str| {
            let part = described.expert.iter().position(|name| *name == last);
            part.map_or(last.to_owned(), |part| TARGETS[4 + part].to_owned())
        };
        let mut found = vec![false; settings.targets.len()];
        let (mut units, mut total) = (BTreeMap::new(), 0);
        for unit in layout.units() {
            for matrix in layout.matrices(&unit) {
                let mut parts = Vec::new();
                let inside = layout
                    .tensors
                    .iter()
                    .filter(|spec| matrix.range.contains(&spec.at));
                for spec in inside {
                    let module = spec.name.trim_end_matches(".weight");
                    let last = module.rsplit('.').next().unwrap_or(module);
                    let wanted = |target: &String| *target == last || *target == canonical(last);
                    let Some(rows) = spec.rows else { continue };
                    let known = TARGETS.contains(&canonical(last).as_str())
                        || LINEAR_TARGETS.contains(&last);
                    if let Some(at) = settings.targets.iter().position(wanted).filter(|_| known) {
                        found[at] = true;
                        let out = (spec.at - matrix.range.start) / matrix.inp;
                        parts.push(Part {
                            module: module.to_owned(),
                            rows,
                            columns: spec.columns,
                            first: (out, parts.len() * padded(settings.rank)),
                        });
                    }
                }
                if parts.is_empty() || units.contains_key(&matrix.range.start) {
                    continue;
                }
                let ranks = parts.len() * padded(settings.rank);
                let mut allot = |out: usize, inp: usize| {
                    let start = total;
                    total += out * inp;
                    Matrix {
                        range: start..total,
                        out,
                        inp,
                    }
                };
                let (a, b) = (allot(ranks, matrix.inp), allot(matrix.out, ranks));
                units.insert(matrix.range.start, Unit { a, b, parts });
            }
        }
        if let Some(at) = found.iter().position(|found| !found) {
            return Err(Error::Request(format!(
                "{} is no target of an adapter here: targets are {}",
                settings.targets[at],
                TARGETS.join(", ")
            )));
        }
        let room = |side| Panels::new(side, Precision::F32, total, []);
        let (forward, backward) = (room(Side::Forward), room(Side::Backward));
        let mut adapter = Self {
            settings,
            units,
            values: vec![0.0; total],
            forward,
            backward,
        };
        adapter.draw(seed);
        adapter.pack();
        Ok(adapter)
    }

    fn draw(&mut self, seed: u64) {
        let rank = self.settings.rank;
        let mut index = 0u64;
        for unit in self.units.values() {
            for part in &unit.parts {
                index += 1;
                let key = seed.wrapping_add(index.wrapping_mul(0xd134_2543_de82_ef95));
                let bound = (part.columns.length() as f64).sqrt().recip();
                let drawn = (0..rank * part.columns.length())
                    .map(|i| ((2.0 * uniform(key, i as u64) - 1.0) * bound) as f32);
                let drawn: Vec<f32> = drawn.collect();
                part.insert_a(unit, rank, &drawn, &mut self.values);
            }
        }
    }

    /// Numbers that train.
    pub fn parameters(&self) -> usize {
        let numbers = |part: &Part| part.rows.length() + part.columns.length();
        let parts = self.units.values().flat_map(|unit| &unit.parts);
        parts.map(|part| self.settings.rank * numbers(part)).sum()
    }

    /// Last names of the adapted modules, as the checkpoint has them.
    pub fn modules(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for part in self.units.values().flat_map(|unit| &unit.parts) {
            let last = part.module.rsplit('.').next().unwrap_or(&part.module);
            if !names.iter().any(|name| name == last) {
                names.push(last.to_owned());
            }
        }
        names
    }

    /// Makes the panels again after the values changed.
    pub fn pack(&mut self) {
        let isa = Isa::best();
        let scale = self.settings.scale();
        let (mut forward, mut backward) = (self.forward.whole(), self.backward.whole());
        let mut scaled = Vec::new();
        for unit in self.units.values() {
            for (matrix, scale) in [(&unit.a, 1.0), (&unit.b, scale)] {
                scaled.clear();
                let values = &self.values[matrix.range.clone()];
                scaled.extend(values.iter().map(|x| x * scale));
                let (start, out, inp) = (matrix.range.start, matrix.out, matrix.inp);
                forward.pack(isa, start, out, inp, &scaled);
                backward.pack(isa, start, out, inp, &scaled);
            }
        }
    }

    /// Every A and B by its name in PEFT's files, with its shape: (rank, inputs) and (outputs, rank).
    pub fn tensors(&self, values: &[f32]) -> Vec<(String, [usize; 2], Vec<f32>)> {
        let rank = self.settings.rank;
        let mut out = Vec::new();
        for unit in self.units.values() {
            for part in &unit.parts {
                let [a, b] = part.names();
                let (inputs, outputs) = (part.columns.length(), part.rows.length());
                out.push((a, [rank, inputs], part.extract_a(unit, rank, values)));
                out.push((b, [outputs, rank], part.extract_b(unit, rank, values)));
            }
        }
        out
    }

    /// Takes A's and B's by name and packs them; `take` gives the numbers of a name and shape.
    pub fn fill(&mut self, mut take: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()> {
        let rank = self.settings.rank;
        let mut values = vec![0.0; self.values.len()];
        for unit in self.units.values() {
            for part in &unit.parts {
                let [a, b] = part.names();
                let given = take(&a, &[rank, part.columns.length()])?;
                part.insert_a(unit, rank, &given, &mut values);
                let given = take(&b, &[part.rows.length(), rank])?;
                part.insert_b(unit, rank, &given, &mut values);
            }
        }
        self.values = values;
        self.pack();
        Ok(())
    }

    /// Adds (alpha / rank) B A to the weights of the layout.
    pub fn merge_into(&self, weights: &mut [f32]) {
        let (rank, scale) = (self.settings.rank, self.settings.scale());
        for (&start, unit) in &self.units {
            let (a, b) = (
                &self.values[unit.a.range.clone()],
                &self.values[unit.b.range.clone()],
            );
            let (inp, ranks) = (unit.a.inp, unit.b.inp);
            for part in &unit.parts {
                let (out, first) = part.first;
                for row in out..out + part.rows.padded() {
                    let weights = &mut weights[start + row * inp..][..inp];
                    for k in first..first + rank {
                        let factor = scale * b[row * ranks + k];
                        let a = &a[k * inp..][..inp];
                        for (weight, a) in weights.iter_mut().zip(a) {
                            *weight += factor * a;
                        }
                    }
                }
            }
        }
    }

    /// Where each matrix with something beside it begins in the layout, its A's (ranks, inp) and its B's (out, ranks).
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (usize, &Matrix, &Matrix)> {
        self.units
            .iter()
            .map(|(&start, unit)| (start, &unit.a, &unit.b))
    }

    /// The values, B's times the scale.
    pub(crate) fn scaled(&self) -> Vec<f32> {
        let mut scaled = self.values.clone();
        self.scale_b(&mut scaled);
        scaled
    }

    /// From dA and dW Aᵀ to the gradient of the values: B's times the scale, and what is off their diagonal set to zero.
    pub(crate) fn settle_gradient(&self, gradient: &mut [f32]) {
        self.scale_b(gradient);
        self.mask(gradient);
    }

    fn scale_b(&self, values: &mut [f32]) {
        let scale = self.settings.scale();
        for unit in self.units.values() {
            let b = &mut values[unit.b.range.clone()];
            b.iter_mut().for_each(|x| *x *= scale);
        }
    }

    /// Ranges of the values beside the matrix of the layout that begins at `start`.
    pub fn ranges(&self, start: usize) -> Option<[Range<usize>; 2]> {
        let unit = self.units.get(&start)?;
        Some([unit.a.range.clone(), unit.b.range.clone()])
    }
}

impl Unit {
    /// Whether one part stands beside the whole matrix, so that all of B trains.
    fn is_full(&self) -> bool {
        self.parts.len() == 1 && self.parts[0].rows.padded() == self.b.out
    }
}

impl Part {
    fn names(&self) -> [String; 2] {
        ["A", "B"].map(|which| format!("base_model.model.{}.lora_{which}.weight", self.module))
    }

    fn insert_a(&self, unit: &Unit, rank: usize, from: &[f32], values: &mut [f32]) {
        let a = &mut values[unit.a.range.clone()];
        for (k, row) in from
            .chunks_exact(self.columns.length())
            .take(rank)
            .enumerate()
        {
            let at = (self.first.1 + k) * unit.a.inp;
            self.columns.pad(row, &mut a[at..at + unit.a.inp]);
        }
    }

    fn extract_a(&self, unit: &Unit, rank: usize, values: &[f32]) -> Vec<f32> {
        let a = &values[unit.a.range.clone()];
        let row = |k| {
            self.columns
                .unpad(&a[(self.first.1 + k) * unit.a.inp..][..unit.a.inp])
        };
        (0..rank).flat_map(row).collect()
    }

    fn insert_b(&self, unit: &Unit, rank: usize, from: &[f32], values: &mut [f32]) {
        let b = &mut values[unit.b.range.clone()];
        for (row, from) in self.rows.offsets().zip(from.chunks_exact(rank)) {
            let at = (self.first.0 + row) * unit.b.inp + self.first.1;
            b[at..at + rank].copy_from_slice(from);
        }
    }

    fn extract_b(&self, unit: &Unit, rank: usize, values: &[f32]) -> Vec<f32> {
        let b = &values[unit.b.range.clone()];
        let row = |row| b[(self.first.0 + row) * unit.b.inp + self.first.1..][..rank].to_vec();
        self.rows.offsets().flat_map(row).collect()
    }
}
