//! Weights that stay as their file has them: mapped, 16-bit or quantised; for reading, not for training.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moevolve_checkpoint::tensors::not_finite;
use moevolve_checkpoint::{Result, TensorView, Tensors};
use moevolve_kernels::arithmetic::{Arithmetic, GGML, OWN};
use moevolve_kernels::ggml::WIDEST;
use moevolve_kernels::stored::{self, FP8_BLOCK, Scratch};
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Isa, LANES, Precision};

use crate::config::Config;
use crate::layout::{Axis, Layout, Matrix, TensorLayout, bias_names};
use crate::linear::{self, Product, Weights};
use crate::parameters::Parameters;
use crate::weights::nothing_left;

/// A matrix of the layout, or the part of a stacked one that a tensor fills.
#[derive(Clone, Debug)]
struct Piece {
    raw: TensorView,
    /// Rows of the layout, padded.
    height: usize,
}

/// What ggml needs to know of a GGUF file beyond what every network has.
#[derive(Clone, Debug)]
pub struct Ggml {
    /// The order in which the file has a head's dimensions.
    pub order: Vec<u32>,
    /// What each frequency of the rotation is divided by; empty if by nothing.
    pub divisors: Vec<f32>,
}

/// The weights of a network by their offset in its layout.
#[derive(Default)]
pub struct Stored {
    pieces: BTreeMap<usize, Piece>,
    /// Norms and biases as f32, padded; neighbours in the layout are neighbours here.
    vectors: Vec<f32>,
    /// Where each begins in `vectors`.
    vector_offsets: BTreeMap<usize, usize>,
    /// Selection biases (layers, experts).
    bias: Vec<f32>,
    /// Of a GGUF file: then everything is computed as ggml computes it.
    ggml: Option<Ggml>,
    /// Whether a GGUF file's: then products depend on a row's batch class, whatever the arithmetic of the rest.
    by_class: bool,
    /// One for each call that is under way.
    scratch: Mutex<Vec<Scratch>>,
}

/// Why a layout's tensors cannot stay as they are: its padding would fall between their numbers.
pub fn obstacle(layout: &Layout) -> Option<&'static str> {
    let gapped = |axis: Axis| axis.groups > 1 && !axis.size.is_multiple_of(LANES);
    let any = layout
        .tensors
        .iter()
        .filter(|spec| !spec.depthwise)
        .any(|spec| spec.rows.is_some_and(gapped) || gapped(spec.columns));
    any.then_some("head_dim is not a multiple of 16")
}

impl Stored {
    /// Takes every tensor of the layout: none missing, none left over, every shape right, every number finite.
    ///
    /// `ggml`: of a GGUF file.
    pub fn assemble(
        mut tensors: Tensors,
        config: &Config,
        layout: &Layout,
        ggml: Option<Ggml>,
        pool: &WorkerPool,
    ) -> Result<Self> {
        let mut stored = Self {
            by_class: ggml.is_some(),
            ggml: ggml.filter(|_| layout.widths.head <= WIDEST),
            ..Self::default()
        };
        for spec in &layout.tensors {
            let shape = spec.shape();
            let raw = tensors.take(&spec.name, &shape)?;
            check(&spec.name, &raw, pool)?;
            if let Some(rows) = spec.rows {
                let height = rows.padded();
                stored.pieces.insert(spec.at, Piece { raw, height });
            } else {
                let at = stored.vectors.len();
                stored.vector_offsets.insert(spec.at, at);
                stored.vectors.resize(at + spec.columns.padded(), 0.0);
                spec.columns.pad(&raw.values(), &mut stored.vectors[at..]);
            }
        }
        for name in bias_names(config) {
            let raw = tensors.take(&name, &[config.experts])?;
            check(&name, &raw, pool)?;
            let mut values = vec![0.0; config.experts];
            raw.decode(0, &mut values);
            stored.bias.extend(values);
        }
        nothing_left(tensors, config)?;
        Ok(stored)
    }

    /// Of a GGUF file, whose weights are used as ggml uses them.
    pub fn ggml(&self) -> Option<&Ggml> {
        self.ggml.as_ref()
    }

    /// The order of operations in every block.
    fn arithmetic(&self) -> &'static Arithmetic {
        if self.ggml.is_some() { &GGML } else { &OWN }
    }

    /// A vector of the layout.
    fn vector(&self, range: &Range<usize>) -> &[f32] {
        &self.vectors[self.vector_offsets[&range.start]..][..range.len()]
    }

    fn multiply(&self, isa: Isa, pool: &WorkerPool, jobs: &mut [Product<'_>], add: bool) {
        let mut scratch = self.scratches().pop().unwrap_or_default();
        // The pieces of stacked matrices lie in the same rows of y, so first all first pieces, then all second.
        let mut number = 0;
        while self.multiply_pieces(isa, pool, jobs, number, add, &mut scratch) {
            number += 1;
        }
        self.scratches().push(scratch);
    }

    /// Multiplies by one piece of each matrix; whether any has another after it.
    fn multiply_pieces(
        &self,
        isa: Isa,
        pool: &WorkerPool,
        jobs: &mut [Product<'_>],
        number: usize,
        add: bool,
        scratch: &mut Scratch,
    ) -> bool {
        let mut others = false;
        let mut products = Vec::with_capacity(jobs.len());
        for Product {
            matrix,
            rows,
            x,
            y,
            classes,
        } in jobs
        {
            let mut pieces = self.pieces.range(matrix.range.clone()).skip(number);
            let Some((at, piece)) = pieces.next() else {
                continue;
            };
            others |= pieces.next().is_some();
            let first = (at - matrix.range.start) / matrix.inp;
            let kept = piece.raw.matrix();
            if !add && kept.out < piece.height {
                for row in y.chunks_exact_mut(matrix.out).take(*rows) {
                    row[first + kept.out..first + piece.height].fill(0.0);
                }
            }
            products.push(stored::Product {
                matrix: kept,
                rows: *rows,
                x,
                x_stride: matrix.inp,
                y: &mut y[first..],
                y_stride: matrix.out,
                add,
                sums: self.arithmetic().float_sums,
                classes,
            });
        }
        if !products.is_empty() {
            stored::products(isa, pool, &mut products, scratch);
        }
        others
    }

    fn scratches(&self) -> MutexGuard<'_, Vec<Scratch>> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows of a matrix as f32, `width` floats apart.
    fn embed(&self, range: &Range<usize>, ids: &[u32], width: usize, out: &mut [f32]) {
        let matrix = self.pieces[&range.start].raw.matrix();
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(width)) {
            matrix.decode_row(id as usize, &mut out[..matrix.inp]);
            out[matrix.inp..].fill(0.0);
        }
    }

    /// Selection biases of a layer, if the router has them.
    pub fn bias(&self, layer: usize, experts: usize) -> &[f32] {
        self.bias.chunks_exact(experts).nth(layer).unwrap_or(&[])
    }

    /// Appends rows of a tensor without padding; the rows of a vector are its numbers.
    pub fn rows(&self, spec: &TensorLayout, rows: Range<usize>, out: &mut Vec<f32>) {
        match self.pieces.get(&spec.at) {
            Some(piece) => {
                let matrix = piece.raw.matrix();
                for row in rows {
                    let start = out.len();
                    out.resize(start + matrix.inp, 0.0);
                    matrix.decode_row(row, &mut out[start..]);
                }
            }
            None => {
                let at = self.vector_offsets[&spec.at];
                let each = if spec.depthwise { spec.columns.size } else { 1 };
                let numbers = spec.columns.unpad(&self.vectors[at..]);
                out.extend_from_slice(&numbers[rows.start * each..rows.end * each]);
            }
        }
    }

    /// Selection biases (layers, experts), or nothing.
    pub fn biases(&self) -> &[f32] {
        &self.bias
    }

    /// A tensor in f32, padded as in the layout.
    pub fn padded(&self, spec: &TensorLayout) -> Vec<f32> {
        let (mut numbers, alone) = (
            Vec::new(),
            TensorLayout {
                at: 0,
                ..spec.clone()
            },
        );
        self.rows(spec, 0..spec.shape()[0], &mut numbers);
        let mut padded = vec![0.0; alone.padded()];
        alone.insert(&numbers, &mut padded);
        padded
    }

    /// The weights in f32, in the layout's order.
    pub fn to_values(&self, layout: &Layout) -> Vec<f32> {
        let mut values = vec![0.0; layout.total];
        for spec in &layout.tensors {
            let mut numbers = Vec::new();
            self.rows(spec, 0..spec.shape()[0], &mut numbers);
            spec.insert(&numbers, &mut values);
        }
        values
    }

    /// The same weights as trainable parameters.
    pub fn to_parameters(&self, layout: &Layout) -> Parameters {
        Parameters::new(self.to_values(layout), self.bias.clone(), layout)
    }
}

/// Stored weights of one engine; others may share them.
#[derive(Clone)]
pub struct Mapped {
    pub weights: Arc<Stored>,
    /// What the operands of the backward pass's products are rounded to.
    pub precision: Precision,
}

impl Weights for Mapped {
    fn arithmetic(&self) -> &'static Arithmetic {
        self.weights.arithmetic()
    }

    fn key_order(&self) -> &[u32] {
        self.weights.ggml().map_or(&[], |ggml| &ggml.order)
    }

    fn by_class(&self) -> bool {
        self.weights.by_class
    }

    fn splits_products(&self) -> bool {
        true
    }

    fn vector(&self, range: &Range<usize>) -> &[f32] {
        self.weights.vector(range)
    }

    fn selection_bias(&self, layer: usize, experts: usize) -> &[f32] {
        self.weights.bias(layer, experts)
    }

    fn embed(&self, _: Isa, matrix: &Matrix, ids: &[u32], out: &mut [f32]) {
        self.weights.embed(&matrix.range, ids, matrix.inp, out);
    }

    fn forward(&self, isa: Isa, pool: &WorkerPool, products: &mut [Product<'_>], add: bool) {
        self.weights.multiply(isa, pool, products, add);
    }

    fn backward(
        &self,
        isa: Isa,
        matrix: &Matrix,
        rows: usize,
        dy: &[f32],
        dx: &mut [f32],
        mut add: bool,
        scratch: &mut linear::Scratch,
    ) {
        let (precision, scratch) = (self.precision, &mut scratch.mapped);
        let Matrix { range, out, inp } = matrix;
        for (at, piece) in self.weights.pieces.range(range.clone()) {
            let piece = piece.raw.matrix();
            let dy = &dy[(at - range.start) / inp..];
            stored::backward(isa, precision, piece, rows, dy, *out, dx, add, scratch);
            add = true;
        }
    }
}

/// Rows that a thread looks through at a time.
const CHECKED: usize = 64;

/// Refuses numbers that are not finite.
fn check(name: &str, raw: &TensorView, pool: &WorkerPool) -> Result<()> {
    let (matrix, bytes) = (raw.matrix(), raw.bytes());
    if let Some(at) = raw.scales.iter().position(|scale| !scale.is_finite()) {
        return Err(not_finite(&raw.file, name, at * FP8_BLOCK, raw.scales[at]));
    }
    let row = matrix.format.row_bytes(matrix.inp);
    // The first in the file, whichever thread sees one first.
    let first = AtomicUsize::new(usize::MAX);
    pool.run(matrix.out.div_ceil(CHECKED), &|part, _| {
        let start = part * CHECKED;
        let end = matrix.out.min(start + CHECKED);
        if let Some(at) = stored::not_finite(matrix.format, &bytes[start * row..end * row]) {
            first.fetch_min(start * matrix.inp + at, Ordering::Relaxed);
        }
    });
    match first.into_inner() {
        usize::MAX => Ok(()),
        at => {
            let mut values = vec![0.0; matrix.inp];
            matrix.decode_row(at / matrix.inp, &mut values);
            Err(not_finite(&raw.file, name, at, values[at % matrix.inp]))
        }
    }
}
