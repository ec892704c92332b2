//! Products of frozen weights with an adapter beside them: y = W x + (alpha / rank) B A x.

use std::cell::RefCell;
use std::ops::Range;

use moevolve_kernels::panels::{GradientScratch, Precision, weight_gradient};
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Arithmetic, Isa, padded, reserve};

use super::{Adapter, Part, Unit};
use crate::layout::Matrix;
use crate::linear::{self, Product, Weights};

/// Rows that a thread takes at a time.
const ROWS: usize = 32;

/// Buffers of the backward pass that hold nothing between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    inner: Vec<f32>,
    dinner: Vec<f32>,
    packed: GradientScratch,
}

thread_local! {
    /// A x of a thread's rows; its threads live as long as the engine's.
    static INNER: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Adapter {
    /// y (rows, out) += (alpha / rank) B A x, x (rows, inp), beside a matrix of the layout.
    fn forward(&self, isa: Isa, pool: &WorkerPool, product: &mut Product<'_>) {
        let Product {
            matrix, rows, x, y, ..
        } = product;
        let Some(Unit { a, b, .. }) = self.units.get(&matrix.range.start) else {
            return;
        };
        let mut parts: Vec<_> = y[..*rows * b.out]
            .chunks_mut(ROWS * b.out)
            .zip(x[..*rows * a.inp].chunks(ROWS * a.inp))
            .collect();
        pool.each(&mut parts, &|(y, x), _| {
            let rows = y.len() / b.out;
            INNER.with_borrow_mut(|inner| {
                reserve(inner, rows * a.out);
                self.forward
                    .multiply(isa, &a.range, rows, a.inp, a.out, x, inner, false);
                self.forward
                    .multiply(isa, &b.range, rows, b.inp, b.out, inner, y, true);
            });
        });
    }

    /// dx (rows, inp) += dy (rows, out) (alpha / rank) B A.
    #[allow(clippy::too_many_arguments)]
    fn backward(
        &self,
        isa: Isa,
        matrix: &Matrix,
        rows: usize,
        dy: &[f32],
        dx: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Some(Unit { a, b, .. }) = self.units.get(&matrix.range.start) else {
            return;
        };
        let dinner = &mut scratch.dinner;
        reserve(dinner, rows * a.out);
        self.backward
            .multiply(isa, &b.range, rows, b.out, b.inp, dy, dinner, false);
        self.backward
            .multiply(isa, &a.range, rows, a.out, a.inp, dinner, dx, true);
    }

    /// Accumulates the gradients of A and B, in the layout of the values; what is off B's diagonal gets some too, see
    /// [`Self::mask`].
    #[allow(clippy::too_many_arguments)]
    fn gradient(
        &self,
        isa: Isa,
        matrix: &Matrix,
        rows: usize,
        dy: &[f32],
        x: &[f32],
        gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Some(Unit { a, b, .. }) = self.units.get(&matrix.range.start) else {
            return;
        };
        let Scratch {
            inner,
            dinner,
            packed,
        } = scratch;
        reserve(inner, rows * a.out);
        reserve(dinner, rows * a.out);
        self.forward
            .multiply(isa, &a.range, rows, a.inp, a.out, x, inner, false);
        let scale = self.settings.scale();
        inner[..rows * a.out].iter_mut().for_each(|x| *x *= scale);
        let db = &mut gradient[b.range.clone()];
        weight_gradient(
            isa,
            Precision::F32,
            rows,
            b.out,
            b.inp,
            dy,
            inner,
            db,
            packed,
        );
        self.backward
            .multiply(isa, &b.range, rows, b.out, b.inp, dy, dinner, false);
        let da = &mut gradient[a.range.clone()];
        weight_gradient(
            isa,
            Precision::F32,
            rows,
            a.out,
            a.inp,
            dinner,
            x,
            da,
            packed,
        );
    }

    /// Sets what is off the diagonal of the B's to zero.
    pub(super) fn mask(&self, gradient: &mut [f32]) {
        let width = padded(self.settings.rank);
        for unit in self.units.values().filter(|unit| !unit.is_full()) {
            let rows = gradient[unit.b.range.clone()].chunks_exact_mut(unit.b.inp);
            for (row, values) in rows.enumerate() {
                let of =
                    |part: &&Part| (part.first.0..part.first.0 + part.rows.padded()).contains(&row);
                let own = unit.parts.iter().find(of).map(|part| part.first.1);
                for (at, x) in values.iter_mut().enumerate() {
                    if !own.is_some_and(|own| (own..own + width).contains(&at)) {
                        *x = 0.0;
                    }
                }
            }
        }
    }
}

/// Frozen weights with an adapter beside them, which alone trains.
#[derive(Clone, Copy)]
pub struct Lora<'a> {
    pub base: &'a dyn Weights,
    pub adapter: &'a Adapter,
}

impl Weights for Lora<'_> {
    fn arithmetic(&self) -> &'static Arithmetic {
        self.base.arithmetic()
    }

    fn key_order(&self) -> &[u32] {
        self.base.key_order()
    }

    fn by_class(&self) -> bool {
        self.base.by_class()
    }

    fn splits_products(&self) -> bool {
        self.base.splits_products()
    }

    fn vector(&self, range: &Range<usize>) -> &[f32] {
        self.base.vector(range)
    }

    fn selection_bias(&self, layer: usize, experts: usize) -> &[f32] {
        self.base.selection_bias(layer, experts)
    }

    fn embed(&self, isa: Isa, matrix: &Matrix, ids: &[u32], out: &mut [f32]) {
        self.base.embed(isa, matrix, ids, out);
    }

    fn forward(&self, isa: Isa, pool: &WorkerPool, products: &mut [Product<'_>], add: bool) {
        self.base.forward(isa, pool, products, add);
        for product in products {
            self.adapter.forward(isa, pool, product);
        }
    }

    fn backward(
        &self,
        isa: Isa,
        matrix: &Matrix,
        rows: usize,
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
        scratch: &mut linear::Scratch,
    ) {
        self.base.backward(isa, matrix, rows, dy, dx, add, scratch);
        self.adapter
            .backward(isa, matrix, rows, dy, dx, &mut scratch.lora);
    }

    fn trained(&self) -> usize {
        self.adapter.values.len()
    }

    fn gradient(
        &self,
        isa: Isa,
        matrix: &Matrix,
        rows: usize,
        dy: &[f32],
        x: &[f32],
        gradient: &mut [f32],
        scratch: &mut linear::Scratch,
    ) {
        let scratch = &mut scratch.lora;
        self.adapter
            .gradient(isa, matrix, rows, dy, x, gradient, scratch);
    }

    fn mask(&self, gradient: &mut [f32]) {
        self.adapter.mask(gradient);
    }
}
