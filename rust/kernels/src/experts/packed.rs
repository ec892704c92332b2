//! A block of experts whose weights are packed in panels.
//!
//! Its work is split over a pool in parts of (expert, block of columns): first gate, up and SwiGLU, then down. No sum
//! depends on how it is split, so the bits are the same on any number of threads, and as in a pass that is kept.

use super::{Activation, Copies, ExpertRanges, Products, Shape};
use crate::arithmetic::OWN;
use crate::panels::{Panels, Precision};
use crate::route::Routing;
use crate::rows::{add, add_row, gather};
use crate::shared::Shared;
use crate::worker_pool::WorkerPool;
use crate::{Isa, bf16, gemm, padded, reserve};

/// Columns of a part: two panels, enough work to share and few enough to balance.
const COLUMNS: usize = 2 * gemm::PANEL;

/// Rows of a part of the router's product, of sorting, and of the combination.
pub(super) const TOKENS: usize = 32;

/// Multiply-adds below which a block is computed by the caller alone: waking others costs more.
const SMALL: usize = 1 << 19;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Weights packed in panels, at their ranges.
pub struct PackedBlock<'a> {
    pub isa: Isa,
    pub pool: &'a WorkerPool,
    pub shape: Shape,
    pub ranges: &'a ExpertRanges,
    /// Packed for [`crate::panels::Side::Forward`].
    pub panels: &'a Panels,
    /// Where the ranges of biases lie, if the block has any.
    pub values: &'a [f32],
}

/// Buffers that hold nothing between calls.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    single: Operands<f32>,
    half: Operands<u16>,
}

/// Operands of the products.
#[derive(Clone, Debug, Default)]
struct Operands<N> {
    /// (copies, hidden), rows [`Number::apart`]: the input in expert order.
    sorted: Vec<N>,
    /// (copies, intermediate), rows [`Number::apart`].
    activations: Vec<N>,
    /// One a thread.
    workers: Vec<Worker<N>>,
}

#[derive(Clone, Debug, Default)]
struct Worker<N> {
    floats: Vec<f32>,
    activated: Vec<f32>,
    row: Vec<N>,
}

/// What the operands of products are stored as.
trait Number: Copy + Default + Send + Sync {
    /// From one row of `width` numbers to the next: a line of the cache more, because rows a power of two apart would
    /// share a few of its sets.
    fn apart(width: usize) -> usize {
        width + LINE / size_of::<Self>()
    }
    /// Numbers as operands; `row` is scratch that grows once.
    fn rounded<'a>(isa: Isa, x: &'a [f32], row: &'a mut Vec<Self>) -> &'a [Self];
    /// Activations of a row of gates and ups as operands; `row` is scratch that grows once.
    fn activate(
        isa: Isa,
        activation: Activation,
        gate_up: &[f32],
        row: &mut Vec<f32>,
        out: &mut [Self],
    );
    fn panels(panels: &Panels) -> &[Self];
    /// As [`gemm::multiply`] for rows of `a` that lie [`Self::apart`].
    #[allow(clippy::too_many_arguments)]
    fn multiply(
        isa: Isa,
        rows: usize,
        depth: usize,
        columns: usize,
        a: &[Self],
        panels: &[Self],
        c: &mut [f32],
    );
}

impl Number for f32 {
    fn rounded<'a>(_: Isa, x: &'a [f32], _: &'a mut Vec<Self>) -> &'a [Self] {
        x
    }
    fn activate(
        isa: Isa,
        activation: Activation,
        gate_up: &[f32],
        _: &mut Vec<f32>,
        out: &mut [Self],
    ) {
        activation.forward(isa, &OWN, out.len(), gate_up, out);
    }
    fn panels(panels: &Panels) -> &[Self] {
        panels.single()
    }
    fn multiply(
        isa: Isa,
        rows: usize,
        depth: usize,
        columns: usize,
        a: &[Self],
        panels: &[Self],
        c: &mut [f32],
    ) {
        let a_row = Self::apart(depth);
        gemm::multiply_apart(isa, rows, depth, columns, a, a_row, panels, c, false);
    }
}

impl Number for u16 {
    fn rounded<'a>(isa: Isa, x: &'a [f32], row: &'a mut Vec<Self>) -> &'a [Self] {
        reserve(row, x.len());
        bf16::round(isa, x, &mut row[..x.len()]);
        &row[..x.len()]
    }
    fn activate(
        isa: Isa,
        activation: Activation,
        gate_up: &[f32],
        row: &mut Vec<f32>,
        out: &mut [Self],
    ) {
        let wide = out.len();
        reserve(row, wide);
        activation.forward(isa, &OWN, wide, gate_up, &mut row[..wide]);
        bf16::round(isa, &row[..wide], out);
    }
    fn panels(panels: &Panels) -> &[Self] {
        panels.half()
    }
    fn multiply(
        isa: Isa,
        rows: usize,
        depth: usize,
        columns: usize,
        a: &[Self],
        panels: &[Self],
        c: &mut [f32],
    ) {
        let a_row = Self::apart(depth);
        bf16::multiply_rounded(isa, rows, depth, columns, a, a_row, panels, c, false);
    }
}

impl Products for PackedBlock<'_> {
    fn scores(&self, tokens: usize, h: &[f32], scores: &mut [f32]) {
        let (router, width) = (&self.ranges.router, padded(self.shape.experts));
        let hidden = self.shape.hidden;
        let scores = Shared::new(scores);
        let split = self.is_split(tokens);
        let step = if split { TOKENS } else { tokens.max(1) };
        self.share(split, tokens.div_ceil(step), &|part, _| {
            let (first, end) = (part * step, tokens.min((part + 1) * step));
            // SAFETY: these tokens are this part's.
            let scores = unsafe { scores.slice(first * width..end * width) };
            let h = &h[first * hidden..end * hidden];
            self.panels.multiply(
                self.isa,
                router,
                end - first,
                hidden,
                width,
                h,
                scores,
                false,
            );
            if let Some(biases) = &self.ranges.biases {
                add_row(
                    self.isa,
                    end - first,
                    &self.values[biases.router.clone()],
                    scores,
                );
            }
        });
    }

    fn experts(
        &self,
        routing: &Routing,
        h: &[f32],
        keep: bool,
        copies: &mut Copies,
        buffers: &mut Buffers,
        outputs: &mut [f32],
    ) {
        match self.panels.precision() {
            _ if keep => self.kept(routing, h, copies, outputs),
            Precision::F32 => self.run(routing, h, &mut buffers.single, outputs),
            Precision::Bf16 => self.run(routing, h, &mut buffers.half, outputs),
        }
    }
}

impl PackedBlock<'_> {
    /// Whether a block of so many tokens is worth the other threads, and they have nothing else to do.
    fn is_split(&self, tokens: usize) -> bool {
        let Shape {
            hidden,
            intermediate,
            chosen,
            ..
        } = self.shape;
        tokens * chosen * 3 * hidden * intermediate >= SMALL && self.pool.is_free()
    }

    /// Calls `part(index, thread)` for each of so many parts, by the pool if the block is split.
    fn share(&self, split: bool, parts: usize, part: &(dyn Fn(usize, usize) + Sync)) {
        if split {
            self.pool.run(parts, part);
        } else {
            (0..parts).for_each(|index| part(index, 0));
        }
    }

    /// One expert after another, with all that the backward pass reads left in `copies`.
    fn kept(&self, routing: &Routing, h: &[f32], copies: &mut Copies, outputs: &mut [f32]) {
        let Self {
            isa,
            shape,
            ranges,
            panels,
            ..
        } = *self;
        let (hidden, inner) = (shape.hidden, shape.intermediate);
        copies.reserve(shape, routing.tokens.len());
        gather(isa, hidden, &routing.tokens, h, &mut copies.inputs);
        for e in 0..shape.experts {
            let rows = routing.rows_of(e);
            let n = rows.len();
            if n == 0 {
                continue;
            }
            let inputs = &copies.inputs[rows.start * hidden..];
            let gate_up = &mut copies.gate_up[rows.start * 2 * inner..][..n * 2 * inner];
            let activations = &mut copies.activations[rows.start * inner..][..n * inner];
            let outputs = &mut outputs[rows.start * hidden..];
            let (up, down) = (&ranges.gate_up[e], &ranges.down[e]);
            panels.multiply(isa, up, n, hidden, 2 * inner, inputs, gate_up, false);
            if let Some(biases) = &ranges.biases {
                add_row(isa, n, &self.values[biases.gate_up[e].clone()], gate_up);
            }
            let activation = shape.activation;
            activation.forward(isa, &OWN, inner, gate_up, activations);
            panels.multiply(isa, down, n, inner, hidden, activations, outputs, false);
            if let Some(biases) = &ranges.biases {
                add_row(isa, n, &self.values[biases.down[e].clone()], outputs);
            }
        }
    }

    /// Every expert by parts, with nothing left but the outputs.
    fn run<N: Number>(
        &self,
        routing: &Routing,
        h: &[f32],
        operands: &mut Operands<N>,
        outputs: &mut [f32],
    ) {
        let (isa, ranges) = (self.isa, self.ranges);
        let Shape {
            hidden,
            intermediate: inner,
            experts,
            chosen,
            activation,
            ..
        } = self.shape;
        let biases = ranges.biases.as_ref();
        let copies = routing.tokens.len();
        let tokens = copies / chosen;
        let split = self.is_split(tokens);
        let (input_row, inner_row) = (N::apart(hidden), N::apart(inner));
        let Operands {
            sorted,
            activations,
            workers,
        } = operands;
        reserve(sorted, copies * input_row);
        reserve(activations, copies * inner_row);
        reserve(workers, self.pool.threads());
        let workers = Shared::new(workers);
        // SAFETY: one part at a time has this thread's number.
        let worker = |thread: usize| unsafe { &mut workers.slice(thread..thread + 1)[0] };

        let shared = Shared::new(sorted);
        self.share(split, tokens.div_ceil(TOKENS), &|part, thread| {
            for token in part * TOKENS..tokens.min((part + 1) * TOKENS) {
                let row = &mut worker(thread).row;
                let row = N::rounded(isa, &h[token * hidden..][..hidden], row);
                for &slot in &routing.slots[token * chosen..][..chosen] {
                    // SAFETY: every copy has a slot of its own.
                    unsafe { shared.put(slot as usize * input_row, row) };
                }
            }
        });

        let sorted = &sorted[..];
        let mut active = Vec::with_capacity(experts);
        active.extend((0..experts).filter(|&e| !routing.rows_of(e).is_empty()));
        // One thread alone takes whole products. Panels of gate and up are apart only where none has columns of both.
        let columns = if split && inner.is_multiple_of(gemm::PANEL) {
            COLUMNS
        } else {
            inner
        };
        let blocks = inner.div_ceil(columns);
        let shared = Shared::new(activations);
        self.share(split, active.len() * blocks, &|part, thread| {
            let (e, first) = (active[part / blocks], part % blocks * columns);
            let wide = columns.min(inner - first);
            let rows = routing.rows_of(e);
            let n = rows.len();
            let Worker {
                floats: scratch,
                activated,
                ..
            } = worker(thread);
            reserve(scratch, 3 * n * wide);
            let (both, product) = scratch.split_at_mut(2 * n * wide);
            let a = &sorted[rows.start * input_row..rows.end * input_row];
            let matrix = &N::panels(self.panels)[ranges.gate_up[e].clone()];
            if wide == inner {
                N::multiply(isa, n, hidden, 2 * inner, a, matrix, both);
            } else {
                // Gate and up beside each other, as SwiGLU reads them.
                for (side, start) in [first, inner + first].into_iter().enumerate() {
                    let panels = &matrix[start * hidden..][..wide * hidden];
                    N::multiply(isa, n, hidden, wide, a, panels, product);
                    for (row, from) in product.chunks_exact(wide).take(n).enumerate() {
                        both[(2 * row + side) * wide..][..wide].copy_from_slice(from);
                    }
                }
            }
            if let Some(biases) = biases {
                let (gate, up) = self.values[biases.gate_up[e].clone()].split_at(inner);
                for row in both.chunks_exact_mut(2 * wide) {
                    add(isa, &gate[first..first + wide], &mut row[..wide]);
                    add(isa, &up[first..first + wide], &mut row[wide..]);
                }
            }
            for (row, both) in rows.zip(both.chunks_exact(2 * wide)) {
                let at = row * inner_row + first;
                // SAFETY: these rows are this expert's and these columns this part's.
                let out = unsafe { shared.slice(at..at + wide) };
                N::activate(isa, activation, both, activated, out);
            }
        });

        let activations = &activations[..];
        let shared = Shared::new(outputs);
        let columns = if split { COLUMNS } else { hidden };
        let blocks = hidden.div_ceil(columns);
        self.share(split, active.len() * blocks, &|part, thread| {
            let (e, first) = (active[part / blocks], part % blocks * columns);
            let wide = columns.min(hidden - first);
            let rows = routing.rows_of(e);
            let a = &activations[rows.start * inner_row..rows.end * inner_row];
            let matrix = &N::panels(self.panels)[ranges.down[e].clone()];
            let panels = &matrix[first * inner..][..wide * inner];
            let bias = biases.map(|biases| &self.values[biases.down[e].clone()][first..][..wide]);
            if wide == hidden {
                // SAFETY: these rows are this expert's.
                let outputs = unsafe { shared.slice(rows.start * hidden..rows.end * hidden) };
                N::multiply(isa, rows.len(), inner, wide, a, panels, outputs);
                if let Some(bias) = bias {
                    add_row(isa, rows.len(), bias, outputs);
                }
                return;
            }
            let scratch = &mut worker(thread).floats;
            reserve(scratch, rows.len() * wide);
            N::multiply(isa, rows.len(), inner, wide, a, panels, scratch);
            if let Some(bias) = bias {
                add_row(isa, rows.len(), bias, scratch);
            }
            for (row, from) in rows.zip(scratch.chunks_exact(wide)) {
                // SAFETY: these rows are this expert's and these columns this part's.
                unsafe { shared.put(row * hidden + first, from) };
            }
        });
    }
}
